"""Outages of phpIPAM: each failure is translated into one of our errors."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from lab.phpipam import Faults
from overlay_net.adapters.phpipam.responses import ResponseLost
from overlay_net.model.errors import CredentialsRefused, Unavailable
from tests.component.phpipam_faults import FAULTS, FAULTS_AND_OUTCOMES, Fault
from tests.component.phpipam_support import bench, owner


@pytest.mark.parametrize(("break_it", "maybe_done"), FAULTS_AND_OUTCOMES)
async def test_failure_is_unavailable_and_for_a_write_a_lost_response(break_it: Fault, maybe_done: bool) -> None:
    async with bench(timeout=0.5) as lab:
        await lab.client.read_subnet(lab.subnet)
        break_it(lab.server)
        with pytest.raises(Unavailable) as read:
            await lab.client.search_hostname("worker-1")
        assert not isinstance(read.value, CredentialsRefused)
        with pytest.raises(Unavailable) as write:
            await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        assert isinstance(write.value, ResponseLost) == maybe_done


async def test_write_lock_time_out_with_status_200_is_a_failure() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.faults.lock_timeout = 1
        with pytest.raises(ResponseLost, match="Cannot obtain lock"):
            await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        assert lab.rows() == []


@pytest.mark.parametrize("break_it", FAULTS)
async def test_failed_login_does_not_delay_reservations_after_recovery(break_it: Fault) -> None:
    """The reservation was never sent, so no row can appear from it."""
    async with bench(timeout=0.5) as lab:
        break_it(lab.server)
        backend = lab.backend()
        with pytest.raises(Unavailable) as failed:
            await backend.reserve(owner(), lab.pool())
        assert not isinstance(failed.value, ResponseLost)
        lab.server.faults = Faults()
        lab.server.backend_up = lab.server.database_up = lab.server.api_enabled = True
        lab.clock.forward(failed.value.retry_after or 0)
        made = await backend.reserve(owner(), lab.pool())
        assert [row["ip"] for row in lab.rows()] == [str(made.address.ip)]


async def test_unreachable_server_is_unavailable_and_no_request_was_sent() -> None:
    async with bench(url="http://127.0.0.1:9") as lab:
        with pytest.raises(Unavailable, match="phpIPAM is unreachable") as refused:
            await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        assert not isinstance(refused.value, ResponseLost)


@asynccontextmanager
async def another_server(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[tuple[str, list[str]]]:
    requested_paths: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        requested_paths.append(request.path)
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}", requested_paths
    finally:
        await runner.cleanup()


async def test_redirect_is_not_followed() -> None:
    async with another_server(lambda _: web.Response()) as (trap, trapped):

        def redirect(request: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": f"{trap}{request.path}"})

        async with another_server(redirect) as (url, requested_paths), bench(url=url) as lab:
            with pytest.raises(CredentialsRefused, match=f"redirect .302. to {trap}; set phpipam.url to it"):
                await lab.client.read_subnet(lab.subnet)
            assert len(requested_paths) == 1
            assert trapped == []


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://ipam.example.com/api/overlay/user/", "to https://ipam.example.com; set phpipam.url to it"),
        ("https://ipam.example.com/ipam/api/overlay/user/?x=1", "to https://ipam.example.com/ipam; set phpipam.url"),
        (
            "https://u:p@sso.example.com/login?next=%2Fapi%2F#top",
            "to https://sso.example.com/login, which is not a phpIPAM",
        ),
        ("/moved/api/overlay/user/", "/moved; set phpipam.url"),
        ("//[x", "without a valid target"),
        ("", "redirect"),
    ],
)
async def test_redirect_names_its_target(location: str, named: str) -> None:
    def redirect(_: web.Request) -> web.Response:
        return web.Response(status=301, headers={"Location": location} if location else {})

    async with another_server(redirect) as (url, _), bench(url=url) as lab:
        with pytest.raises(CredentialsRefused) as refused:
            await lab.client.read_subnet(lab.subnet)
        assert named in str(refused.value)
        assert "user/" not in str(refused.value), "the message does not depend on the request"


@pytest.mark.parametrize(
    "body",
    ["", "[]", "null", "7", '"text"', "{}", '{"success": true}', '{"success": true, "data": []}', "<html>"],
)
async def test_malformed_response_is_a_failure(body: str) -> None:
    async with another_server(lambda _: web.Response(text=body)) as (url, _), bench(url=url) as lab:
        with pytest.raises(Unavailable):
            await lab.client.read_subnet(lab.subnet)
