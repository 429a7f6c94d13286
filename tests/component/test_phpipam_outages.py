"""Outages of phpIPAM: translated errors, the circuit breaker, and no secret in any error or log."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from lab.phpipam import Faults, Server
from overlay_net.adapters.phpipam import Secret
from overlay_net.adapters.phpipam.responses import ResponseLost
from overlay_net.model.errors import CredentialsRefused, OverlayNetError, Unavailable
from tests.component.phpipam_support import (
    CODE,
    PASSWORD,
    USER,
    Bench,
    assert_nothing_secret,
    bench,
    capture_all_logs,
    owner,
)

Fault = Callable[[Server], None]


def fault(**values: Any) -> Fault:
    def set_them(server: Server) -> None:
        for name, value in values.items():
            setattr(server.faults, name, value)

    return set_them


def backend_down(server: Server) -> None:
    server.backend_up = False


def database_down(server: Server) -> None:
    server.database_up = False


def api_off(server: Server) -> None:
    server.api_enabled = False


FAULTS = [
    pytest.param(fault(html=1), True, id="502 with an HTML page"),
    pytest.param(backend_down, True, id="502 from the web server"),
    pytest.param(fault(server_error=1), True, id="500 with an empty body"),
    pytest.param(database_down, True, id="the database is down"),
    pytest.param(fault(lose_request=1), True, id="the connection is reset before the call is processed"),
    pytest.param(fault(hang=1), True, id="no response"),
    pytest.param(fault(blocked=True), False, id="the address is blocked"),
    pytest.param(api_off, False, id="the API is disabled"),
]
BREAKS = [pytest.param(each.values[0], id=each.id) for each in FAULTS]


@pytest.mark.parametrize(("break_it", "maybe_done"), FAULTS)
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


@pytest.mark.parametrize("break_it", BREAKS)
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
            with pytest.raises(CredentialsRefused, match=r"redirect; set phpipam\.url"):
                await lab.client.read_subnet(lab.subnet)
            assert len(requested_paths) == 1
            assert trapped == []


@pytest.mark.parametrize(
    "body",
    ["", "[]", "null", "7", '"text"', "{}", '{"success": true}', '{"success": true, "data": []}', "<html>"],
)
async def test_malformed_response_is_a_failure(body: str) -> None:
    async with another_server(lambda _: web.Response(text=body)) as (url, _), bench(url=url) as lab:
        with pytest.raises(Unavailable):
            await lab.client.read_subnet(lab.subnet)


# --- The circuit breaker -----------------------------------------------------------------------------------------


async def call_and_fail(lab: Bench, number: int = 1) -> list[Unavailable]:
    """The errors of so many concurrent calls."""
    calls = (lab.client.read_subnet(lab.subnet) for _ in range(number))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Unavailable)]


async def test_breaker_opens_after_three_consecutive_failures() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        backend_down(lab.server)
        for _ in range(3):
            await call_and_fail(lab)
        calls = lab.call_count()
        errors = await call_and_fail(lab, 100)
        assert lab.call_count() == calls
        assert all("502" in str(error) and error.retry_after is not None for error in errors)


async def test_breaker_stays_closed_when_failures_are_not_consecutive() -> None:
    async with bench() as lab:
        for _ in range(10):
            backend_down(lab.server)
            await call_and_fail(lab)
            await call_and_fail(lab)
            lab.server.backend_up = True
            await lab.client.read_subnet(lab.subnet)
        assert lab.breaker.error is None


async def test_half_open_breaker_admits_one_call_after_growing_pauses_and_closes_on_success() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        backend_down(lab.server)
        for _ in range(3):
            await call_and_fail(lab)
        pauses = []
        for _ in range(6):
            pause = (await call_and_fail(lab))[0].retry_after
            assert pause is not None
            pauses.append(pause)
            lab.clock.forward(pause)
            calls = lab.call_count()
            await call_and_fail(lab, 30)
            assert lab.call_count() == calls + 1
        assert pauses == sorted(pauses)
        assert pauses[-1] > 4 * pauses[0]
        for _ in range(20):
            lab.clock.forward(31)
            await call_and_fail(lab)
        assert ((await call_and_fail(lab))[0].retry_after or 0) <= 30
        lab.server.backend_up = True
        lab.clock.forward(31)
        assert lab.recoveries == []
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet
        assert lab.recoveries == [lab.clock()]
        assert lab.breaker.error is None


async def test_queued_calls_fail_without_a_request_once_the_breaker_opens() -> None:
    async with bench(timeout=0.5, concurrency=4) as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.faults.hang = 1
        calls = lab.call_count()
        await call_and_fail(lab, 60)
        # Four were in flight, and two more may start before the third failure.
        assert lab.call_count() <= calls + 6


# --- Secrets -----------------------------------------------------------------------------------------------------


async def test_errors_and_logs_contain_no_password_or_token(caplog: pytest.LogCaptureFixture) -> None:
    capture_all_logs(caplog)
    errors: list[BaseException] = []
    tokens: set[str] = set()
    basic = "b3BlcmF0b3I6cGFzcy1Xb3J0LTdmM2E="
    for break_it in (parameter.values[0] for parameter in FAULTS):
        for before in (True, False):
            async with bench(timeout=0.5) as lab:
                if before:
                    await lab.client.read_subnet(lab.subnet)
                    tokens.add(lab.server.users[USER].token or "")
                assert callable(break_it)
                break_it(lab.server)
                answers = await asyncio.gather(
                    *(lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"}) for _ in range(5)),
                    return_exceptions=True,
                )
                errors += [answer for answer in answers if isinstance(answer, BaseException)]
    for settings in ({"permission": 0}, {"permission": 1}, {"security": "ssl_token"}, {"app": "none"}):
        async with bench(**settings) as lab:
            try:
                await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
            except OverlayNetError as error:
                errors.append(error)
    async with bench(url="http://127.0.0.1:9") as lab:
        errors += await call_and_fail(lab)
    async with bench(secret=Secret(USER, PASSWORD + "x")) as lab:
        errors += await call_and_fail(lab, 3)
    assert len(errors) > 80
    assert caplog.records
    assert_nothing_secret(caplog, errors, {PASSWORD, basic, *tokens})
    assert PASSWORD not in repr(Secret(USER, PASSWORD, CODE)) and CODE not in repr(Secret(USER, PASSWORD, CODE))
