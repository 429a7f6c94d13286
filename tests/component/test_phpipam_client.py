"""The login to phpIPAM: one for all calls, expired tokens, wrong passwords, changed Secrets."""

import asyncio
from typing import Any

import pytest

from overlay_net.adapters.phpipam import ApiSession, Client, Secret
from overlay_net.model.errors import CredentialsRefused, NotLeader, Unavailable
from tests.component.phpipam_support import APP, PASSWORD, USER, Bench, bench

HOURS = 3600.0


async def call_concurrently(lab: Bench, number: int) -> list[Any]:
    calls = (lab.client.read_subnet(lab.subnet) for _ in range(number))
    return list(await asyncio.gather(*calls, return_exceptions=True))


# --- Login -------------------------------------------------------------------------------------------------------


async def test_fifty_concurrent_first_calls_log_in_once() -> None:
    async with bench() as lab:
        answers = await call_concurrently(lab, 50)
        assert [answer["id"] for answer in answers] == [lab.subnet] * 50
        assert lab.server.calls["POST user"] == lab.server.logins == 1
        assert lab.observed.logins == ["ok"]


async def test_expired_token_is_renewed_once_and_no_call_fails() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.clock.forward(6 * HOURS + 1)
        answers = await call_concurrently(lab, 20)
        assert [answer["id"] for answer in answers] == [lab.subnet] * 20
        assert lab.server.logins == 2
        assert lab.breaker.error is None


async def test_token_in_use_does_not_expire() -> None:
    async with bench() as lab:
        for _ in range(10):
            await lab.client.read_subnet(lab.subnet)
            lab.clock.forward(5 * HOURS)
        assert lab.server.logins == 1


async def test_token_deleted_by_another_client_is_renewed() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        user = lab.server.users[USER]
        headers = {"token": user.token or "", "Content-Type": "application/json"}
        async with lab.connection.session.delete(f"{lab.url}/api/{APP}/user/", headers=headers) as response:
            assert response.status == 200
        record, address = await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        assert (address, [row["id"] for row in lab.rows()]) == ("192.168.100.2", [record])
        assert lab.server.logins == 2


async def test_two_controllers_share_the_token_of_one_user() -> None:
    async with bench() as lab:
        other = Client(ApiSession(lab.connection, lab.url, APP, lab.credentials, lab.breakers, lab.observed))
        for _ in range(3):
            await lab.client.read_subnet(lab.subnet)
            await other.read_subnet(lab.subnet)
        assert lab.server.logins == 2


# --- Wrong passwords and blocked addresses -----------------------------------------------------------------------


async def test_wrong_password_is_tried_at_most_three_times_in_ten_minutes() -> None:
    async with bench(secret=Secret(USER, "wrong")) as lab:
        for _ in range(600):
            for answer in await call_concurrently(lab, 16):
                assert isinstance(answer, CredentialsRefused)
            lab.clock.forward(1)
        assert 1 <= len(lab.server.failed_logins) <= 3
        assert lab.call_count() == len(lab.server.failed_logins)
        # The address is not blocked: another login from it succeeds.
        lab.server.set_password(USER, "wrong")
        lab.clock.forward(300)
        await lab.client.read_subnet(lab.subnet)
        assert len(lab.recoveries) == 1


async def test_password_change_on_the_server_causes_one_failed_login() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.set_password(USER, "another")
        lab.clock.forward(6 * HOURS + 1)
        answers = await call_concurrently(lab, 50)
        assert all(isinstance(answer, CredentialsRefused) for answer in answers)
        assert len(lab.server.failed_logins) == 1
        assert "rejected the username or password" in str(answers[0])


async def test_disabled_user_is_reported_and_login_is_not_repeated() -> None:
    async with bench() as lab:
        lab.server.users[USER].enabled = False
        with pytest.raises(CredentialsRefused, match="User account is disabled"):
            await lab.client.read_subnet(lab.subnet)
        for _ in range(100):
            await call_concurrently(lab, 1)
            lab.clock.forward(1)
        assert lab.server.calls["POST user"] == 1


@pytest.mark.parametrize(
    ("forbid", "permit"),
    [
        pytest.param({"users": False}, {"users": True}, id="a disabled user"),
        pytest.param({"permission": 0}, {"permission": 2}, id="a disabled app"),
        pytest.param({"security": "user"}, {"security": "none"}, id="an unsupported security of the app"),
    ],
)
async def test_user_or_app_that_is_enabled_again_is_noticed_within_two_minutes(
    forbid: dict[str, Any], permit: dict[str, Any]
) -> None:
    async with bench() as lab:

        def change(values: dict[str, Any]) -> None:
            for name, value in values.items():
                if name == "users":
                    lab.server.users[USER].enabled = value
                else:
                    setattr(lab.server.apps[APP], name, value)

        change(forbid)
        with pytest.raises(CredentialsRefused):
            await lab.client.read_subnet(lab.subnet)
        change(permit)
        lab.clock.forward(120)
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet


async def test_username_with_a_colon_is_reported_and_not_sent() -> None:
    async with bench(secret=Secret("domain:operator", PASSWORD)) as lab:
        with pytest.raises(CredentialsRefused, match="username"):
            await lab.client.read_subnet(lab.subnet)
        assert lab.call_count() == 0


async def test_login_with_a_non_ascii_password() -> None:
    async with bench(secret=Secret(USER, "pässwört-€-日本")) as lab:
        lab.server.set_password(USER, "pässwört-€-日本")
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet


async def test_blocked_address_sends_nothing_for_five_minutes_and_then_one_probe() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.faults.blocked = True
        with pytest.raises(Unavailable, match="blocked") as refused:
            await lab.client.read_subnet(lab.subnet)
        assert refused.value.retry_after == 300
        calls = lab.call_count()
        for _ in range(299):
            for answer in await call_concurrently(lab, 3):
                assert isinstance(answer, Unavailable)
                assert 0 < (answer.retry_after or 0) <= 300
            lab.clock.forward(1)
        assert lab.call_count() == calls
        lab.clock.forward(2)
        await call_concurrently(lab, 20)
        assert lab.call_count() == calls + 1
        lab.server.unblock()
        lab.clock.forward(301)
        answers = await call_concurrently(lab, 1)
        assert answers[0]["id"] == lab.subnet
        assert len(lab.recoveries) == 1


# --- Leader election ---------------------------------------------------------------------------------------------


async def test_former_leader_reads_but_does_not_write() -> None:
    is_leader = True

    def fence() -> float:
        if not is_leader:
            raise NotLeader("another process is the leader")
        return 1.0

    async with bench(fence=fence) as lab:
        record, address = await lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"})
        before = lab.rows()
        is_leader = False
        for write in (
            lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-2"}),
            lab.client.create(lab.subnet, "192.168.100.77", {"hostname": "worker-2"}),
            lab.client.update(lab.subnet, record, {"hostname": "worker-2", "tag": 2}),
            lab.client.delete(lab.subnet, record),
        ):
            with pytest.raises(NotLeader):
                await write
        assert lab.rows() == before
        assert (await lab.client.read_row(record))["ip"] == address
        assert lab.breaker.error is None, "the server did not fail"


async def test_standby_controller_may_log_in() -> None:
    def fence() -> float:
        raise NotLeader("another process is the leader")

    async with bench(fence=fence) as lab:
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet
