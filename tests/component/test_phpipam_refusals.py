"""Requests that phpIPAM's database refuses: reported at once in its words, and no outage."""

from ipaddress import ip_address

import pytest

from overlay_net.model.errors import Refused
from overlay_net.model.ipam import PoolFacts
from tests.component.phpipam_support import Bench, bench, owner

REQUIRED = "1364 Field 'custom_rack' doesn't have a default value"


def require_rack(lab: Bench) -> None:
    lab.server.add_custom_field("custom_rack", null=False)


def release_rack(lab: Bench) -> None:
    del lab.server.columns["addresses"]["custom_rack"]


def refusal(facts: PoolFacts) -> str:
    return "" if facts.failure is None else str(facts.failure)


async def test_row_that_the_database_refuses_is_reported_as_a_refusal_not_an_outage() -> None:
    async with bench() as lab:
        backend = lab.backend()
        require_rack(lab)
        for number in range(10):
            with pytest.raises(Refused, match=REQUIRED):
                await backend.reserve(owner(f"worker-{number}"), lab.pool())
        assert lab.breaker.error is None
        release_rack(lab)
        # No row can appear later, so no node waits for one.
        for number in range(10):
            await backend.reserve(owner(f"worker-{number}"), lab.pool())
        assert len(lab.rows()) == 10


@pytest.mark.parametrize("requested", [None, "192.168.100.50"], ids=["any address", "a requested address"])
async def test_refused_reservation_shows_in_the_pool_until_one_succeeds(requested: str | None) -> None:
    async with bench() as lab:
        changes: list[None] = []
        backend = lab.backend(changed=lambda: changes.append(None))
        address = ip_address(requested) if requested else None
        require_rack(lab)
        for node in ("worker-1", "worker-2"):
            with pytest.raises(Refused):
                await backend.reserve(owner(node), lab.pool(), address)
        facts = await backend.inspect_pool(lab.pool())
        assert REQUIRED in refusal(facts)
        assert (facts.usage.used, len(changes)) == (0, 1)
        release_rack(lab)
        await backend.reserve(owner(), lab.pool(), address)
        assert refusal(await backend.inspect_pool(lab.pool())) == ""
        assert len(changes) == 2


async def test_refusal_of_one_address_or_in_another_subnet_does_not_make_the_pool_unready() -> None:
    async with bench() as lab:
        other = lab.server.add_subnet(1, "10.0.0.0/24", "10.0.0.1")
        backend = lab.backend(lab.pool(), lab.pool(other, "10.0.0.0/24", "10.0.0.1"))
        with pytest.raises(Refused, match="not a valid address"):
            await backend.reserve(owner(), lab.pool(), ip_address("192.168.100.255"))
        assert ("reserve", "refused") in lab.observed.calls
        require_rack(lab)
        with pytest.raises(Refused):
            await backend.reserve(owner(), lab.pool(other, "10.0.0.0/24", "10.0.0.1"))
        assert refusal(await backend.inspect_pool(lab.pool())) == ""


async def test_refusal_that_no_node_repeats_is_forgotten() -> None:
    async with bench() as lab:
        backend = lab.backend()
        require_rack(lab)
        with pytest.raises(Refused):
            await backend.reserve(owner(), lab.pool())
        lab.clock.forward(301)
        assert refusal(await backend.inspect_pool(lab.pool())) == ""


async def test_database_error_during_the_log_in_does_not_blame_the_credentials() -> None:
    async with bench() as lab:
        lab.server.faults.database_error = (
            "Error: SQLSTATE[42S22]: Column not found: 1054 Unknown column 'token' in 'SET'"
        )
        with pytest.raises(Refused, match="1054 Unknown column"):
            await lab.client.read_subnet(lab.subnet)
        assert lab.breaker.error is None
