"""The overlay link on macvlans, ipvlans, VLANs and members of a VRF, and what an interrupted creation leaves."""

from dataclasses import replace

import pytest

from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.stacked_link import lies_on
from overlay_net.model.kernel import Desired, DesiredLink, Link, LinkMode, Observed
from overlay_net.model.kernel_actions import AddLink, DeleteLink
from overlay_net.model.names import LINK_ALIAS
from tests.fakes.kernel import FakeKernel
from tests.unit.test_link import (
    ETH0,
    ETH1,
    LO,
    MARK,
    NODE,
    OVERLAY,
    ModesKernel,
    converge,
    link_config,
    machine,
    reported,
)

BOND = Link(4, "bond0", "bond", None, None, up=True)
VLAN = Link(5, "bond0.7", "vlan", 4, None, up=True)
MAC0 = Link(20, "mac0", "macvlan", 2, None, up=True)
"""A macvlan on eth0."""
MAC1 = Link(21, "mac1", "macvlan", 2, None, up=True)
"""A macvlan that was created on mac0, which the kernel attached to eth0."""
MAC_VLAN = Link(22, "mac2", "macvlan", 5, None, up=True)
TAP = Link(23, "tap0", "macvtap", 2, None, up=True)
IPV0 = Link(24, "ipv0", "ipvlan", 2, None, up=True)
IPVTAP = Link(25, "ipvtap0", "ipvtap", 2, None, up=True)
INSIDE = Link(2, "eth0", "macvlan", None, None, up=True, outside=(0, 5))
"""eth0 of a container: a macvlan on a link of its host."""


def below(parent: int | None, kind: str = "macvlan", outside: tuple[int, int] | None = None) -> Link:
    return Link(9, "tmp0", kind, parent, LINK_ALIAS, up=True, outside=outside)


@pytest.mark.parametrize(
    ("link", "parent", "expected"),
    [
        pytest.param(below(2), ETH0, True, id="a physical interface"),
        pytest.param(below(3), ETH0, False, id="another interface"),
        pytest.param(below(2), MAC0, True, id="a macvlan"),
        pytest.param(below(20), MAC0, False, id="never on the macvlan itself"),
        pytest.param(below(3), MAC0, False, id="a macvlan on another interface"),
        pytest.param(below(2), MAC1, True, id="a macvlan on a macvlan"),
        pytest.param(below(2), TAP, True, id="a macvtap"),
        pytest.param(below(5), VLAN, True, id="a VLAN on a bond"),
        pytest.param(below(4), VLAN, False, id="the bond below the VLAN"),
        pytest.param(below(5), MAC_VLAN, True, id="a macvlan on a VLAN"),
        pytest.param(below(24), IPV0, True, id="an ipvlan under a macvlan"),
        pytest.param(below(2, "ipvlan"), IPV0, True, id="an ipvlan"),
        pytest.param(below(2, "ipvlan"), IPVTAP, True, id="an ipvtap"),
        pytest.param(below(20, "ipvlan"), MAC0, True, id="a macvlan under an ipvlan"),
        pytest.param(below(None, outside=(0, 5)), INSIDE, True, id="a macvlan on a link of the host"),
        pytest.param(below(None, outside=(0, 6)), INSIDE, False, id="on another link of the host"),
        pytest.param(below(None, outside=(1, 5)), INSIDE, False, id="on a link of another namespace"),
        pytest.param(below(5), INSIDE, False, id="on a link of this namespace with the same index"),
        pytest.param(below(None, outside=(0, 2)), ETH0, False, id="outside, with the index of an interface here"),
    ],
)
def test_a_link_lies_where_the_kernel_creates_it(link: Link, parent: Link, *, expected: bool) -> None:
    assert lies_on(link, parent) is expected


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan"])
@pytest.mark.parametrize(
    ("parent", "others"),
    [
        (MAC0, ()),
        (MAC1, (MAC0,)),
        (IPV0, ()),
        (VLAN, (BOND,)),
        (MAC_VLAN, (BOND, VLAN)),
        (replace(INSIDE, index=30, name="eth7"), ()),
    ],
    ids=["macvlan", "macvlan on macvlan", "ipvlan", "vlan on bond", "macvlan on vlan", "macvlan of a container"],
)
def test_the_link_is_created_once_on_any_parent(mode: str, parent: Link, others: tuple[Link, ...]) -> None:
    kernel, config = FakeKernel(MARK, machine(parent, *others)), link_config(mode, parent.name)
    converge(kernel, NODE, config)
    (tmp0,) = [link for link in kernel.links.values() if link.name == "tmp0"]
    assert lies_on(tmp0, parent)
    assert reported(kernel, NODE, config).interface == parent.name
    # Its address and routes come back after it was deleted, on the same parent.
    kernel.delete_link(tmp0.index)
    converge(kernel, NODE, config)


def test_the_link_moves_to_another_lower_link() -> None:
    kernel = FakeKernel(MARK, machine(MAC0))
    converge(kernel, NODE, link_config(parent="mac0"))
    converge(kernel, NODE, link_config(parent="eth1"))
    (tmp0,) = [link for link in kernel.links.values() if link.name == "tmp0"]
    assert tmp0.parent == ETH1.index


def test_the_current_one_of_two_macvlans_stays_the_parent_while_it_is_down() -> None:
    other = Link(22, "mac1", "macvlan", 3, None, up=True)
    kernel, config = FakeKernel(MARK, machine(replace(MAC0, up=False), other)), link_config(parent="mac*")
    kernel.links[20] = MAC0
    converge(kernel, NODE, config)
    kernel.set_down(20)
    converge(kernel, NODE, config)
    (tmp0,) = [link for link in kernel.links.values() if link.name == "tmp0"]
    assert tmp0.parent == ETH0.index


# --- Names and leftovers ----------------------------------------------------------------------------------------------


def plan(*links: Link, kind: LinkMode = "macvlan") -> tuple[list[object], list[str]]:
    """The actions of the first plan, and its problems."""
    target = DesiredLink("eth0" if kind == "address" else "tmp0", "eth0", kind)
    found = plan_kernel(Desired(target, OVERLAY), Observed(links=(LO, ETH0, *links)), MARK)
    return list(found.actions), [f"{each.reason}: {each.message}" for each in found.problems]


def test_a_link_with_our_name_as_an_alternative_name_is_reported() -> None:
    actions, problems = plan(replace(ETH1, alternative_names=("storage", "tmp0")))
    assert actions == []
    assert problems == [
        "LinkNameTaken: tmp0 is an alternative name of eth1; remove it, or choose another link name",
    ]


LEFTOVER = Link(40, "tmp0.1f2e3d", "macvlan", 2, None, up=False, group=MARK.group)


@pytest.mark.parametrize("leftover", [LEFTOVER, replace(LEFTOVER, alias=LINK_ALIAS, group=0)], ids=["group", "alias"])
def test_what_an_interrupted_creation_left_is_removed(leftover: Link) -> None:
    actions, problems = plan(leftover)
    assert DeleteLink(40, leftover.name) in actions
    assert any(isinstance(each, AddLink) for each in actions)
    assert problems == []
    assert plan_kernel(Desired(), Observed(links=(LO, ETH0, leftover)), MARK).actions == (
        DeleteLink(40, leftover.name),
    )


@pytest.mark.parametrize("name", ["tmp0.new", LEFTOVER.name])
def test_a_foreign_link_with_such_a_name_is_left_alone(name: str) -> None:
    actions, problems = plan(replace(LEFTOVER, name=name, group=0))
    assert not [each for each in actions if isinstance(each, DeleteLink)]
    assert any(isinstance(each, AddLink) for each in actions)
    assert problems == []


# --- VRFs -------------------------------------------------------------------------------------------------------------

VRF = Link(50, "red", "vrf", None, None, up=True, vrf_table=1001)
BRIDGE = Link(51, "br0", "bridge", None, None, up=True)


def test_an_address_on_a_member_of_a_vrf_is_refused() -> None:
    kernel = ModesKernel(MARK, machine(VRF))
    kernel.links[2] = replace(ETH0, master=VRF.index)
    before = kernel.observe()
    config = link_config("address")
    converge(kernel, NODE, config)
    assert kernel.observe() == before
    (configured, *_) = reported(kernel, NODE, config).conditions
    assert (configured.status, configured.reason) == (False, "ParentInVrf")
    assert "eth0 belongs to VRF red" in configured.message
    assert "link_mode" in configured.message


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan"])
def test_a_link_on_a_member_of_a_vrf_is_outside_of_the_vrf(mode: str) -> None:
    kernel, config = ModesKernel(MARK, machine(VRF)), link_config(mode)
    kernel.links[2] = replace(ETH0, master=VRF.index)
    assert converge(kernel, NODE, config).problems == ()
    (tmp0,) = [link for link in kernel.links.values() if link.name == "tmp0"]
    assert lies_on(tmp0, ETH0)


@pytest.mark.parametrize("master", [None, BRIDGE.index, 99])
def test_an_address_on_another_interface_is_not_refused(master: int | None) -> None:
    kernel = ModesKernel(MARK, machine(VRF, BRIDGE))
    kernel.links[2] = replace(ETH0, master=master)
    assert converge(kernel, NODE, link_config("address")).problems == ()


# --- Links without Ethernet -------------------------------------------------------------------------------------------

TUNNEL = replace(ETH0, kind="tun", ethernet=False, arp=False)


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan"])
def test_a_link_on_a_parent_without_ethernet_is_refused_and_the_message_names_the_setting(mode: str) -> None:
    kernel, config = ModesKernel(MARK, machine()), link_config(mode)
    kernel.links[2] = TUNNEL
    before = kernel.observe()
    converge(kernel, NODE, config)
    assert kernel.observe() == before
    (configured, *_) = reported(kernel, NODE, config).conditions
    assert (configured.status, configured.reason) == (False, "ParentNotEthernet")
    assert "set link_mode to address" in configured.message
    converge(kernel, NODE, link_config("address"))
    assert reported(kernel, NODE, link_config("address")).configured == OVERLAY


def test_an_existing_link_stays_while_the_new_parent_is_unsuitable() -> None:
    kernel = ModesKernel(MARK, machine())
    converge(kernel, NODE, link_config(parent="eth1"))
    before = kernel.observe()
    kernel.links[2] = TUNNEL
    converge(kernel, NODE, link_config())
    assert {each for each in kernel.links.values() if each.index != 2} == {
        each for each in before.links if each.index != 2
    }
    assert reported(kernel, NODE, link_config()).configured == OVERLAY


# --- Parents whose frames another link receives -----------------------------------------------------------------------

PASSTHRU = replace(MAC0, mode="passthru")


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan"])
@pytest.mark.parametrize(
    ("parent", "others", "named"),
    [
        *(
            (replace(ETH0, master=51), (Link(51, "up0", kind, None, None, up=True),), "set interface to up0")
            for kind in ("bridge", "bond", "team", "openvswitch")
        ),
        (ETH0, (PASSTHRU,), "mac0 is a macvlan in passthru mode"),
        (ETH0, (replace(TAP, mode="passthru"),), "tap0 is a macvtap in passthru mode"),
    ],
)
def test_a_parent_whose_frames_another_link_receives_is_refused(
    mode: LinkMode, parent: Link, others: tuple[Link, ...], named: str
) -> None:
    target = DesiredLink("tmp0", parent.name, mode)
    found = plan_kernel(Desired(target, OVERLAY), Observed(links=(LO, parent, *others)), MARK)
    assert found.actions == ()
    assert [each.reason for each in found.problems] == ["ParentInUse"]
    assert named in found.problems[0].message


def test_a_macvlan_on_one_in_passthru_mode_is_refused() -> None:
    target = DesiredLink("tmp0", "mac0")
    found = plan_kernel(Desired(target, OVERLAY), Observed(links=(LO, ETH0, PASSTHRU)), MARK)
    assert [each.reason for each in found.problems] == ["ParentInUse"]


@pytest.mark.parametrize(
    "others",
    [
        (replace(MAC0, mode="bridge"),),
        (replace(MAC0, mode="passthru", parent=3),),
        (replace(ETH1, master=51), BRIDGE),
        (Link(51, "br0", "bridge", 2, None, up=True),),
    ],
)
def test_a_parent_that_is_shared_carries_the_link(others: tuple[Link, ...]) -> None:
    actions, problems = plan(*others)
    assert any(isinstance(each, AddLink) for each in actions)
    assert problems == []
