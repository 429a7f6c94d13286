"""The log-in to phpIPAM: one for all, tokens that die, passwords that are wrong, secrets that change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from overlay_net.adapters.phpipam import ApiSession, Client, Secret, credentials
from overlay_net.model.errors import CredentialsRefused, NotLeader, Unavailable
from tests.component.eventually import eventually
from tests.component.phpipam_support import APP, PASSWORD, USER, Bench, bench

HOURS = 3600.0


async def all_of(lab: Bench, number: int) -> list[Any]:
    calls = (lab.client.read_subnet(lab.subnet) for _ in range(number))
    return list(await asyncio.gather(*calls, return_exceptions=True))


# --- Logging in --------------------------------------------------------------------------------------------------


async def test_fifty_first_calls_at_the_same_time_log_in_once() -> None:
    async with bench() as lab:
        answers = await all_of(lab, 50)
        assert [answer["id"] for answer in answers] == [lab.subnet] * 50
        assert lab.server.calls["POST user"] == lab.server.logins == 1
        assert lab.observed.logins == ["ok"]


async def test_a_token_that_expired_is_renewed_once_for_all_and_no_call_fails() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.clock.forward(6 * HOURS + 1)
        answers = await all_of(lab, 20)
        assert [answer["id"] for answer in answers] == [lab.subnet] * 20
        assert lab.server.logins == 2
        assert lab.breaker.error is None


async def test_a_token_in_use_does_not_expire() -> None:
    async with bench() as lab:
        for _ in range(10):
            await lab.client.read_subnet(lab.subnet)
            lab.clock.forward(5 * HOURS)
        assert lab.server.logins == 1


async def test_a_token_that_somebody_else_removed_is_renewed() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        user = lab.server.users[USER]
        headers = {"token": user.token or "", "Content-Type": "application/json"}
        async with lab.session.delete(f"{lab.url}/api/{APP}/user/", headers=headers) as response:
            assert response.status == 200
        record, address = await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        assert (address, [row["id"] for row in lab.rows()]) == ("192.168.100.2", [record])
        assert lab.server.logins == 2


async def test_two_controllers_with_one_user_do_not_take_the_token_from_each_other() -> None:
    async with bench() as lab:
        other = Client(ApiSession(lab.session, lab.url, APP, lab.credentials, lab.breaker, lab.observed))
        for _ in range(3):
            await lab.client.read_subnet(lab.subnet)
            await other.read_subnet(lab.subnet)
        assert lab.server.logins == 2


# --- Wrong passwords and lock-outs -------------------------------------------------------------------------------


async def test_a_wrong_password_is_tried_three_times_in_ten_minutes_however_many_nodes_wait() -> None:
    async with bench(secret=Secret(USER, "wrong")) as lab:
        for _ in range(600):
            for answer in await all_of(lab, 16):
                assert isinstance(answer, CredentialsRefused)
            lab.clock.forward(1)
        assert 1 <= len(lab.server.failed_logins) <= 3
        assert lab.asked() == len(lab.server.failed_logins)
        # A person can still log in from the same address: nobody is locked out.
        lab.server.set_password(USER, "wrong")
        lab.clock.forward(300)
        await lab.client.read_subnet(lab.subnet)
        assert len(lab.reopened) == 1


async def test_the_password_changes_on_the_server_while_the_old_token_dies_for_all_at_once() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.set_password(USER, "another")
        lab.clock.forward(6 * HOURS + 1)
        answers = await all_of(lab, 50)
        assert all(isinstance(answer, CredentialsRefused) for answer in answers)
        assert len(lab.server.failed_logins) == 1
        assert "rejected the username or password" in str(answers[0])


async def test_a_disabled_user_is_told_from_an_outage_and_not_hammered() -> None:
    async with bench() as lab:
        lab.server.users[USER].enabled = False
        with pytest.raises(CredentialsRefused, match="User account is disabled"):
            await lab.client.read_subnet(lab.subnet)
        for _ in range(100):
            await all_of(lab, 1)
            lab.clock.forward(1)
        assert lab.server.calls["POST user"] == 1


async def test_a_user_name_with_a_colon_is_named_and_never_sent() -> None:
    async with bench(secret=Secret("domain:operator", PASSWORD)) as lab:
        with pytest.raises(CredentialsRefused, match="username"):
            await lab.client.read_subnet(lab.subnet)
        assert lab.asked() == 0


async def test_a_password_beyond_ascii_logs_in() -> None:
    async with bench(secret=Secret(USER, "pässwört-€-日本")) as lab:
        lab.server.set_password(USER, "pässwört-€-日本")
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet


async def test_a_blocked_address_is_silent_for_five_minutes_and_then_asks_once() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.faults.blocked = True
        with pytest.raises(Unavailable, match="blocked") as refused:
            await lab.client.read_subnet(lab.subnet)
        assert refused.value.retry_after == 300
        asked = lab.asked()
        for _ in range(299):
            for answer in await all_of(lab, 3):
                assert isinstance(answer, Unavailable)
                assert 0 < (answer.retry_after or 0) <= 300
            lab.clock.forward(1)
        assert lab.asked() == asked
        lab.clock.forward(2)
        await all_of(lab, 20)
        assert lab.asked() == asked + 1
        lab.server.unblock()
        lab.clock.forward(301)
        answers = await all_of(lab, 1)
        assert answers[0]["id"] == lab.subnet
        assert len(lab.reopened) == 1


# --- The mounted secret ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def watching(lab: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(credentials, "POLL_SECONDS", 0.01)
    task = asyncio.create_task(lab.credentials.watch(lab.api.renew_credentials))
    # The watch knows the content from before its first look.
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()


def mount(directory: Path, generation: str, password: str) -> None:
    """As the kubelet does: a new directory, and ``..data`` swapped to it in one step."""
    content = directory / f"..{generation}"
    content.mkdir()
    (content / "username").write_text(f"{USER}\n")
    (content / "password").write_text(f"{password}\n")
    link = directory / "..data_tmp"
    link.symlink_to(content.name)
    link.rename(directory / "..data")
    for name in ("username", "password"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def rewrite(directory: Path, generation: str, password: str) -> None:
    assert generation
    (directory / "username").write_text(USER)
    (directory / "password").write_text(password)


@pytest.mark.parametrize("put", [mount, rewrite], ids=["as the kubelet swaps it", "rewritten in place"])
async def test_a_secret_that_was_mended_is_used_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Any
) -> None:
    put(tmp_path, "first", "wrong")
    async with bench(directory=tmp_path, secret=Secret()) as lab, watching(lab, monkeypatch):
        with pytest.raises(CredentialsRefused):
            await lab.client.read_subnet(lab.subnet)
        put(tmp_path, "second", PASSWORD)

        async def answers() -> bool:
            with contextlib.suppress(CredentialsRefused):
                return bool((await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet)
            return False

        await eventually(answers, "the new secret is not used", seconds=5)
        assert lab.breaker.error is None
        assert len(lab.server.failed_logins) == 1
        assert lab.reopened


async def test_a_secret_that_is_gone_is_named_by_its_path_and_its_return_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(directory=tmp_path, secret=Secret()) as lab, watching(lab, monkeypatch):
        with pytest.raises(CredentialsRefused, match=r"username: No such file"):
            await lab.client.read_subnet(lab.subnet)
        rewrite(tmp_path, "first", PASSWORD)

        async def reopened() -> bool:
            return bool(lab.reopened)

        await eventually(reopened, "the files are not noticed", seconds=5)
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet


# --- Leading -----------------------------------------------------------------------------------------------------


async def test_whoever_leads_no_more_reads_and_writes_nothing() -> None:
    leads = True

    def fence() -> float:
        if not leads:
            raise NotLeader("another one leads")
        return 1.0

    async with bench(fence=fence) as lab:
        record, address = await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        before = lab.rows()
        leads = False
        for write in (
            lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-2"}),
            lab.client.create(lab.subnet, "192.168.100.77", {"hostname": "worker-2"}),
            lab.client.update(record, {"hostname": "worker-2", "tag": 2}),
            lab.client.delete(record),
        ):
            with pytest.raises(NotLeader):
                await write
        assert lab.rows() == before
        assert (await lab.client.read_row(record))["ip"] == address
        assert lab.breaker.error is None, "this is no fault of the server"


async def test_one_that_stands_by_may_log_in() -> None:
    def fence() -> float:
        raise NotLeader("another one leads")

    async with bench(fence=fence) as lab:
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet
