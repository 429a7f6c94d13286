"""phpIPAM in trouble: each failure becomes one of our errors, the gate closes and opens, and no secret is ever told."""

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
    everything_logged,
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
    pytest.param(fault(html=1), True, id="502 with a page in HTML"),
    pytest.param(backend_down, True, id="502 from the web server in front"),
    pytest.param(fault(server_error=1), True, id="500 with nothing in it"),
    pytest.param(database_down, True, id="the database is down"),
    pytest.param(fault(lose_request=1), True, id="the connection is reset before anything is done"),
    pytest.param(fault(hang=1), True, id="no answer at all"),
    pytest.param(fault(blocked=True), False, id="locked out"),
    pytest.param(api_off, False, id="the API is switched off"),
]
BREAKS = [pytest.param(each.values[0], id=each.id) for each in FAULTS]


@pytest.mark.parametrize(("break_it", "perhaps_done"), FAULTS)
async def test_each_failure_says_nothing_about_a_row_and_only_a_write_may_have_been_done(
    break_it: Fault, perhaps_done: bool
) -> None:
    async with bench(timeout=0.5) as lab:
        await lab.client.read_subnet(lab.subnet)
        break_it(lab.server)
        with pytest.raises(Unavailable) as read:
            await lab.client.search_hostname("worker-1")
        assert not isinstance(read.value, CredentialsRefused)
        with pytest.raises(Unavailable) as write:
            await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        assert isinstance(write.value, ResponseLost) == perhaps_done


async def test_a_write_lock_that_was_waited_for_in_vain_is_a_failure_although_the_status_is_200() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.faults.lock_timeout = 1
        with pytest.raises(ResponseLost, match="Cannot obtain lock"):
            await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        assert lab.rows() == []


@pytest.mark.parametrize("break_it", BREAKS)
async def test_a_log_in_that_fails_keeps_nobody_waiting_once_phpipam_is_back(break_it: Fault) -> None:
    """No row can appear from a reservation that was never sent."""
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


async def test_a_server_that_is_not_there_is_unavailable_and_nothing_was_asked() -> None:
    async with bench(url="http://127.0.0.1:9") as lab:
        with pytest.raises(Unavailable, match="phpIPAM is unreachable") as refused:
            await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        assert not isinstance(refused.value, ResponseLost)


@asynccontextmanager
async def another_server(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[tuple[str, list[str]]]:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}", asked
    finally:
        await runner.cleanup()


async def test_a_redirect_is_not_followed_with_our_password() -> None:
    async with another_server(lambda _: web.Response()) as (trap, trapped):

        def redirect(request: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": f"{trap}{request.path}"})

        async with another_server(redirect) as (url, asked), bench(url=url) as lab:
            with pytest.raises(CredentialsRefused, match=r"redirect; set phpipam\.url"):
                await lab.client.read_subnet(lab.subnet)
            assert len(asked) == 1
            assert trapped == []


@pytest.mark.parametrize(
    "body",
    ["", "[]", "null", "7", '"text"', "{}", '{"success": true}', '{"success": true, "data": []}', "<html>"],
)
async def test_an_answer_that_phpipam_never_gives_is_a_failure_and_no_crash(body: str) -> None:
    async with another_server(lambda _: web.Response(text=body)) as (url, _), bench(url=url) as lab:
        with pytest.raises(Unavailable):
            await lab.client.read_subnet(lab.subnet)


# --- The gate ----------------------------------------------------------------------------------------------------


async def failing(lab: Bench, number: int = 1) -> list[Unavailable]:
    """What so many calls at the same time are told."""
    calls = (lab.client.read_subnet(lab.subnet) for _ in range(number))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Unavailable)]


async def test_after_three_failures_in_a_row_callers_are_refused_at_once() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        backend_down(lab.server)
        for _ in range(3):
            await failing(lab)
        asked = lab.asked()
        told = await failing(lab, 100)
        assert lab.asked() == asked
        assert all("502" in str(error) and error.retry_after is not None for error in told)


async def test_failures_that_are_not_in_a_row_close_nothing() -> None:
    async with bench() as lab:
        for _ in range(10):
            backend_down(lab.server)
            await failing(lab)
            await failing(lab)
            lab.server.backend_up = True
            await lab.client.read_subnet(lab.subnet)
        assert lab.breaker.error is None


async def test_an_outage_is_probed_by_one_caller_at_a_time_after_growing_pauses_and_ends_by_itself() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        backend_down(lab.server)
        for _ in range(3):
            await failing(lab)
        pauses = []
        for _ in range(6):
            pause = (await failing(lab))[0].retry_after
            assert pause is not None
            pauses.append(pause)
            lab.clock.forward(pause)
            asked = lab.asked()
            await failing(lab, 30)
            assert lab.asked() == asked + 1
        assert pauses == sorted(pauses)
        assert pauses[-1] > 4 * pauses[0]
        for _ in range(20):
            lab.clock.forward(31)
            await failing(lab)
        assert ((await failing(lab))[0].retry_after or 0) <= 30
        lab.server.backend_up = True
        lab.clock.forward(31)
        assert lab.reopened == []
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet
        assert lab.reopened == [lab.clock()]
        assert lab.breaker.error is None


async def test_callers_that_queue_behind_a_dead_server_are_told_without_asking_it() -> None:
    async with bench(timeout=0.5, concurrency=4) as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.faults.hang = 1
        asked = lab.asked()
        await failing(lab, 60)
        # Four were under way, and two more may follow before the third failure.
        assert lab.asked() <= asked + 6


# --- Secrets -----------------------------------------------------------------------------------------------------


async def test_no_password_and_no_token_is_in_any_error_or_log(caplog: pytest.LogCaptureFixture) -> None:
    everything_logged(caplog)
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
        errors += await failing(lab)
    async with bench(secret=Secret(USER, PASSWORD + "x")) as lab:
        errors += await failing(lab, 3)
    assert len(errors) > 80
    assert caplog.records
    assert_nothing_secret(caplog, errors, {PASSWORD, basic, *tokens})
    assert PASSWORD not in repr(Secret(USER, PASSWORD, CODE)) and CODE not in repr(Secret(USER, PASSWORD, CODE))
