"""phpIPAM's REST API: the simulator, and a real server if one is configured, give the recorded responses."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from lab.cluster.pki import Authority
from lab.net.private import is_private
from lab.phpipam import serve
from tests.contract.phpipam.client import PASSWORD, connect, small_server
from tests.contract.phpipam.real import Real, real_server, unportable
from tests.contract.phpipam.recordings import ALL, LEFT_OUT, Recording, numbers, recordings
from tests.contract.phpipam.replay import Session, replay_all
from tests.contract.phpipam.simulated import simulated

RECORDINGS = recordings()
# In private namespaces no other machine can be reached.
REAL = None if is_private() else Real.from_environment()
NO_SERVER = pytest.mark.skip(reason="set PHPIPAM_URL, _APP_ID, _USERNAME and _PASSWORD, and run `nox -s contract`")


def real_server_case(recording: Recording) -> object:
    reason = unportable(recording)
    marks = [pytest.mark.skip(reason=reason)] if reason else []
    return pytest.param("real", recording, id=f"real-{recording}", marks=marks)


CASES = [pytest.param("simulator", each, id=f"simulator-{each}") for each in RECORDINGS] + (
    [real_server_case(each) for each in RECORDINGS]
    if REAL
    else [pytest.param("real", RECORDINGS[0], id="real", marks=NO_SERVER)]
)
Differences = dict[int, list[str]]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Differences]:
    """A function from a subject to its differences by number; each subject replays all recordings once, in order."""
    done: dict[str, Differences] = {}
    replays: dict[str, Callable[[], Awaitable[Differences]]] = {
        "simulator": lambda: replay_simulated(tmp_path_factory.mktemp("pki")),
        "real": replay_real,
    }

    def replay_once(subject: str) -> Differences:
        if subject not in done:
            with asyncio.Runner() as runner:
                done[subject] = runner.run(_run(replays[subject]))
        return done[subject]

    return replay_once


async def _run(replay: Callable[[], Awaitable[Differences]]) -> Differences:
    return await replay()


async def replay_simulated(directory: Path) -> Differences:
    issued = Authority.create(directory).issue_server("phpipam", ["127.0.0.1"])
    async with simulated(issued.certificate, issued.key) as subject:
        return await replay_all(RECORDINGS, subject, subject.prepare)


async def replay_real() -> Differences:
    assert REAL is not None
    async with real_server(REAL) as subject:
        return await replay_all([each for each in RECORDINGS if not unportable(each)], subject, subject.prepare)


@pytest.mark.parametrize(("subject", "recording"), CASES)
def test_response_matches_the_recording(
    replayed: Callable[[str], Differences], subject: str, recording: Recording
) -> None:
    assert replayed(subject)[recording.number] == []


def test_every_recording_is_replayed_or_excluded_with_a_reason() -> None:
    covered = {recording.number for recording in RECORDINGS}
    left_out = set().union(*map(numbers, LEFT_OUT))
    assert not covered & left_out
    assert covered | left_out == numbers(ALL)


async def test_lost_response_leaves_its_row() -> None:
    server = small_server()
    async with connect(server) as client:
        server.faults.lose_response = 1
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.claim("lost")
        assert [row["hostname"] for row in server.rows(1)] == [None, "lost"]
        server.faults.lose_response = 0
        found = await client.call("GET", "addresses/search_hostname/lost/")
        assert found.envelope["data"][0]["ip"] == "192.168.100.2"


async def test_client_time_out_leaves_its_row() -> None:
    server = small_server()
    async with connect(server) as client:
        server.faults.hang = 1
        with pytest.raises(TimeoutError):
            await client.claim("abandoned", timeout=0.2)
        assert [row["hostname"] for row in server.rows(1)] == [None, "abandoned"]


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ("server_error", 500, ""),
        ("html", 502, "<html>"),
        ("lock_timeout", 200, '"code": 500, "success": false'),
        ("blocked", 500, "Your IP has been blocked for 5 minutes"),
    ],
)
async def test_refused_write_changes_nothing(fault: str, status: int, text: str) -> None:
    server = small_server()
    async with connect(server) as client:
        setattr(server.faults, fault, True)
        reply = await client.claim("refused")
        assert (reply.status, text in reply.text) == (status, True)
        assert len(server.rows(1)) == 1


async def test_lost_request_changes_nothing_and_the_seed_determines_which_are_lost() -> None:
    outcomes = []
    for seed in (7, 7, 8):
        server = small_server(seed=seed)
        async with connect(server) as client:
            server.faults.lose_request = 0.5
            done = []
            for number in range(20):
                try:
                    done.append((await client.claim(f"h{number}")).status)
                except aiohttp.ClientConnectionError:
                    done.append(0)
            assert done.count(201) == len(server.rows(1)) - 1
            outcomes.append(done)
    assert outcomes[0] == outcomes[1] != outcomes[2]


async def test_all_writes_that_wait_for_one_lock_succeed() -> None:
    server = small_server()
    async with connect(server) as client:
        replies = await asyncio.gather(*(client.claim(f"h{number}") for number in range(16)))
    assert [reply.status for reply in replies] == [201] * 16
    assert len({row["ip"] for row in server.rows(1)}) == 17


async def test_race_without_a_lock_has_one_winner_per_address() -> None:
    server = small_server(lock="off")
    async with connect(server) as client:
        replies = await asyncio.gather(*(client.claim(f"h{number}") for number in range(16)))
    lost = [reply for reply in replies if reply.status != 201]
    assert lost
    for reply in lost:
        assert reply.status == 409 or "1062 Duplicate entry" in reply.envelope["message"]
    ips = [row["ip"] for row in server.rows(1)]
    assert len(ips) == len(set(ips)) == 17 - len(lost)


async def test_old_version_allocates_an_address_twice() -> None:
    server = small_server()
    server.faults.duplicates = True
    async with connect(server) as client:
        replies = await asyncio.gather(*(client.claim(f"h{number}") for number in range(16)))
    assert [reply.status for reply in replies] == [201] * 16
    assert len({row["ip"] for row in server.rows(1)}) < len(server.rows(1)) == 17


async def test_parallel_first_logins_without_a_lock_leave_one_valid_token() -> None:
    server = small_server(lock="off")
    async with connect(server, login=False) as client:
        tokens = {reply.envelope["data"]["token"] for reply in await asyncio.gather(*(client.login() for _ in "1234"))}
        statuses = []
        for client.token in tokens:
            statuses.append((await client.call("GET", "subnets/1/")).status)
    assert len(tokens) > 1
    assert sorted(statuses) == [200] + [401] * (len(tokens) - 1)


async def test_twelfth_failed_login_is_blocked_for_five_minutes() -> None:
    clock = [1000.0]
    server = small_server(now=lambda: clock[0])
    async with connect(server) as client:
        answers = [(await client.login("wrong")).envelope["message"] for _ in range(13)]
        assert answers[:11] == ["Invalid username or password"] * 11
        assert all("blocked for 5 minutes" in answer for answer in answers[11:])
        assert len(server.failed_logins) == 11
        assert (await client.call("GET", "subnets/1/")).status == 500
        clock[0] += 300
        assert (await client.call("GET", "subnets/1/")).status == 200


async def test_token_expires_six_hours_after_its_last_use() -> None:
    clock = [1000.0]
    server = small_server(now=lambda: clock[0])
    async with connect(server) as client:
        for hours, status in ((5, 200), (5, 200), (6, 401)):
            clock[0] += hours * 3600
            assert (await client.call("GET", "subnets/1/")).status == status
        assert (await client.login()).status == 200
        assert server.logins == 2


async def test_restart_keeps_rows_and_tokens() -> None:
    server = small_server()
    async with connect(server) as client:
        token = client.token
        assert (await client.claim("kept")).status == 201
    async with connect(server, login=False) as client:
        client.token = token
        assert (await client.call("GET", "addresses/search_hostname/kept/")).status == 200
    assert server.calls["GET addresses/search_hostname"] == 1


async def test_unrecorded_call_is_rejected_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with connect(small_server()) as client:
        reply = await client.call("GET", "devices/")
    assert reply.status == 599
    assert "GET /api/overlay/devices/" in reply.text
    assert reply.text in caplog.text


async def test_version_1_4_reports_not_found_with_http_200() -> None:
    async with connect(small_server(version="1.4.7")) as client:
        reply = await client.call("GET", "addresses/search_hostname/none/")
    assert reply.status == 200
    assert reply.envelope | {"time": 0} == {"code": 200, "success": False, "message": "Hostname not found", "time": 0}


async def test_version_1_7_4_requires_a_content_type() -> None:
    async with connect(small_server(version="1.7.4")) as client:
        assert (await client.call("GET", "subnets/1/", headers={"token": client.token})).status == 415
        assert (await client.call("GET", "addresses/192.168.100.1/1/")).status == 200


async def test_recordings_can_be_replayed_on_a_server_that_requires_a_content_type() -> None:
    async with serve(small_server(version="1.7.4")) as url, aiohttp.ClientSession() as client:
        session = Session(Real(url, "overlay", "operator", PASSWORD), client)
        login = await session.login("automation", "overlay")
        assert login["status"] == 200
        headers = {"token": json.loads(login["body"])["data"]["token"]}
        assert (await session.send("GET", f"{url}/api/overlay/subnets/1/", headers, None))["status"] == 200


async def test_row_edited_or_deleted_outside_the_api() -> None:
    server = small_server()
    row = server.add_address(1, "192.168.100.9", hostname="printer", tag=3)
    server.edit(row, hostname="scanner", note="moved")
    async with connect(server) as client:
        read = (await client.call("GET", f"addresses/{row}/")).envelope["data"]
        assert (read["hostname"], read["note"], read["tag"]) == ("scanner", "moved", 3)
        server.remove(row)
        assert (await client.call("GET", f"addresses/{row}/")).status == 404
