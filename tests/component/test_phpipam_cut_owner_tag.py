"""A custom field that is too short for the owner tag, in a database that reports it and in one that cuts the text."""

from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.model.errors import AddressTaken, Refused
from overlay_net.model.ipam import Owner
from tests.component.phpipam_support import Bench, bench, owner, owner_tag

FIELD = "custom_owner"
LONG = "worker-" + "x" * 60
TAG = owner_tag(LONG)
CUT_IN_NODE, CUT_IN_UID = len(TAG) - 20, len(TAG) - 2


def short_field(lab: Bench, length: int, *, strict: bool = False) -> None:
    lab.server.add_custom_field(FIELD, length, strict=strict)


def texts(lab: Bench) -> dict[str, Any]:
    return {row["ip"]: row[FIELD] for row in lab.rows()}


@pytest.mark.parametrize("length", [CUT_IN_NODE, CUT_IN_UID], ids=["cut in the node", "cut in the uid"])
@pytest.mark.parametrize("strict", [True, False], ids=["strict SQL mode", "the text is cut"])
@pytest.mark.parametrize("requested", [None, "192.168.100.50"], ids=["any address", "a requested address"])
async def test_owner_tag_that_does_not_fit_is_refused_and_leaves_no_row(
    length: int, strict: bool, requested: str | None
) -> None:
    async with bench() as lab:
        short_field(lab, length, strict=strict)
        backend, address = lab.backend(owner_tag_field=FIELD), ip_address(requested) if requested else None
        for _ in range(3):
            with pytest.raises(Refused, match=FIELD):
                await backend.reserve(owner(LONG), lab.pool(), address)
        assert lab.rows() == []
        facts = await backend.inspect_pool(lab.pool())
        assert FIELD in str(facts.failure)
        made = await backend.reserve(owner("short"), lab.pool(), address)
        assert (await backend.find(owner("short"), None)) == (made,)


@pytest.mark.parametrize(
    ("text", "taking"),
    [
        pytest.param("", owner(LONG), id="without a text"),
        pytest.param("rack 7", owner(LONG), id="with a text of a person"),
        pytest.param(owner_tag(LONG, uid="1"), owner(LONG, uid="a-longer-uid"), id="with the tag of an earlier Node"),
    ],
)
async def test_row_that_cannot_be_taken_over_is_as_before(text: str, taking: Owner) -> None:
    async with bench() as lab:
        short_field(lab, len(owner_tag(LONG, uid="1")) + 1)
        lab.server.add_address(lab.subnet, "192.168.100.50", hostname=LONG, **({FIELD: text} if text else {}))
        backend = lab.backend(owner_tag_field=FIELD)
        with pytest.raises(Refused, match="512 characters"):
            await backend.reserve(taking, lab.pool(), ip_address("192.168.100.50"), adopt=True)
        assert texts(lab) == {"192.168.100.50": text or None}


async def test_row_with_a_cut_node_that_was_left_behind_is_deleted() -> None:
    async with bench() as lab:
        short_field(lab, CUT_IN_NODE)
        lab.server.add_address(lab.subnet, "192.168.100.9", hostname=LONG, **{FIELD: TAG})
        # Neither another cluster's nor an unrelated text is a cut tag of this one.
        for last, text in (("10", owner_tag(LONG, cluster="other")), ("11", "overlay-net"), ("12", "")):
            lab.server.add_address(lab.subnet, f"192.168.100.{last}", hostname=LONG, **{FIELD: text})
        assert await lab.backend(owner_tag_field=FIELD).find(owner(LONG), None) == ()
        assert sorted(texts(lab)) == [f"192.168.100.{last}" for last in ("10", "11", "12")]


async def test_row_of_an_address_in_use_whose_tag_was_cut_is_neither_deleted_nor_given_to_another_node() -> None:
    async with bench() as lab:
        short_field(lab, CUT_IN_NODE)
        used = ip_address("192.168.100.9")
        lab.server.add_address(lab.subnet, str(used), hostname=LONG, **{FIELD: TAG})
        before, backend = texts(lab), lab.backend(owner_tag_field=FIELD)
        assert await backend.find(owner(LONG), used) == ()
        with pytest.raises(Refused, match="512 characters"):
            await backend.reserve(owner(LONG), lab.pool(), used, adopt=True)
        with pytest.raises(AddressTaken) as taken:
            await backend.reserve(owner("short"), lab.pool(), used)
        assert taken.value.holder == LONG
        assert texts(lab) == before


async def test_row_with_a_cut_uid_stays_that_of_its_node() -> None:
    async with bench() as lab:
        short_field(lab, CUT_IN_UID)
        lab.server.add_address(lab.subnet, "192.168.100.9", hostname=LONG, **{FIELD: TAG})
        backend = lab.backend(owner_tag_field=FIELD)
        (found,) = await backend.find(owner(LONG), None)
        assert str(found.address.ip) == "192.168.100.9"
        await backend.release(found)
        assert lab.rows() == []
