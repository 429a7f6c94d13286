"""Protected subnets: a route that overlaps one is refused and the overlap is named; all others pass."""

from collections.abc import Mapping
from ipaddress import ip_network
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.controller.caches import Caches
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet, Protection
from overlay_net.domain.routes.special_purpose import special_purpose
from overlay_net.model.api import Listing
from overlay_net.model.net import IpNetwork
from overlay_net.model.static_route import StaticRoute
from tests.fakes.turns import Turns
from tests.unit.factories import raw_static_route, static_route

SERVICES = ProtectedSubnet(ip_network("10.96.0.0/16"), "services")
PROTECTION = Protection(
    (
        SERVICES,
        ProtectedSubnet(ip_network("10.176.162.151"), "address of node n1"),
        ProtectedSubnet(ip_network("10.244.1.0/24"), "pod subnet of node n1"),
        ProtectedSubnet(ip_network("fd00:1::/64"), "pod subnet of node n1"),
    )
)


@pytest.mark.parametrize(
    ("subnet", "named"),
    [
        ("10.176.162.151/32", "10.176.162.151/32 (address of node n1)"),
        ("10.176.0.0/16", "10.176.162.151/32 (address of node n1)"),
        ("10.0.0.0/8", "overlaps"),
        ("10.244.1.128/25", "10.244.1.0/24 (pod subnet of node n1)"),
        ("10.96.7.0/24", "10.96.0.0/16 (services)"),
        ("fd00:1::/80", "fd00:1::/64 (pod subnet of node n1)"),
        ("0.0.0.0/0", "default route"),
        ("::/0", "default route"),
        ("192.168.0.0/24", ""),
        ("10.176.162.152/32", ""),
        ("10.244.2.0/24", ""),
        ("fd00:2::/64", ""),
    ],
)
def test_a_subnet_that_overlaps_a_protected_one_is_refused_and_the_overlap_is_named(subnet: str, named: str) -> None:
    found = PROTECTION.find_overlap(ip_network(subnet))
    assert named in found
    assert bool(found) is bool(named)


def test_default_routes_are_accepted_only_if_allowed() -> None:
    assert not Protection((SERVICES,), allow_default=True).find_overlap(ip_network("0.0.0.0/0"))
    assert Protection((SERVICES,), allow_default=True).find_overlap(ip_network("10.0.0.0/8"))


# --- Special-purpose registries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subnet", "named"),
    [
        ("0.1.0.0/16", "0.0.0.0/8 (this network, RFC 791)"),
        ("127.0.0.53/32", "127.0.0.0/8 (loopback, RFC 1122)"),
        ("169.254.169.254/32", "169.254.0.0/16 (link-local, RFC 3927)"),
        ("192.0.0.0/24", "(IETF protocol assignments, RFC 6890)"),
        ("192.0.0.170/32", "(IETF protocol assignments, RFC 6890)"),
        ("192.0.2.128/25", "192.0.2.0/24 (documentation, RFC 5737)"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.0.0/16", "203.0.113.0/24 (documentation, RFC 5737)"),
        ("224.0.0.0/4", "224.0.0.0/4 (multicast, RFC 5771)"),
        ("239.1.1.1/32", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("255.255.255.255/32", "240.0.0.0/4 (reserved, RFC 1112)"),
        ("::/128", "unspecified"),
        ("::1/128", "::1/128 (loopback, RFC 4291)"),
        ("::ffff:10.1.0.0/112", "IPv4-mapped"),
        ("100:0:0:1::/64", "dummy prefix"),
        ("2001:40::/32", "IETF protocol assignments"),
        ("2001:db8:7::/48", "documentation"),
        ("3fff:1::/32", "3fff::/20 (documentation, RFC 9637)"),
        ("fe80::/64", "link-local"),
        ("ff05::2/128", "multicast"),
        # Private, shared, benchmarking and translation addresses are forwarded within a site.
        ("10.0.0.0/8", ""),
        ("172.16.0.0/12", ""),
        ("192.168.0.0/16", ""),
        ("100.64.0.0/10", ""),
        ("198.18.0.0/15", ""),
        ("192.0.0.0/29", ""),
        ("64:ff9b::/96", ""),
        ("fd00::/8", ""),
        ("2001:2::/48", ""),
        ("2001:20::/28", ""),
        ("2600::/12", ""),
    ],
)
def test_special_purpose_subnets_are_refused_by_name(subnet: str, named: str) -> None:
    found = Protection(special_purpose(allow_link_local=False)).find_overlap(ip_network(subnet))
    assert named in found
    assert bool(found) is bool(named)


def test_link_local_routes_are_accepted_only_if_allowed() -> None:
    protection = Protection(special_purpose(allow_link_local=True))
    assert not protection.find_overlap(ip_network("169.254.169.254/32"))
    assert not protection.find_overlap(ip_network("fe80::/64"))
    assert protection.find_overlap(ip_network("127.0.0.1/32"))


# --- The index -------------------------------------------------------------------------------------------------------

networks = st.one_of(
    st.builds(
        lambda number, length: ip_network((number >> (32 - length) << (32 - length), length)),
        st.integers(0, 2**32 - 1),
        st.integers(1, 32),
    ),
    # Few bits, so that many of them overlap; of the other family as well.
    st.builds(lambda number, length: ip_network((number << 24 >> (32 - length) << (32 - length), length)),
              st.integers(0, 255), st.integers(1, 9)),
    st.builds(lambda number, length: ip_network((number << 120 >> (128 - length) << (128 - length), length)),
              st.integers(2, 255), st.integers(1, 9)),
)  # fmt: skip


def naive_overlap(protected: list[Any], subnet: Any) -> bool:
    return any(each.version == subnet.version and each.overlaps(subnet) for each in protected)


@given(st.lists(st.lists(networks, max_size=4), max_size=8), st.lists(networks, max_size=6))
def test_a_decision_follows_every_change_as_if_all_subnets_were_compared(
    changes: list[Any], subnets: list[Any]
) -> None:
    """Each change replaces the subnets of one of three sources."""
    protection, protected = Protection(), dict[str, list[Any]]()
    routes = {f"r{number}": static_route(f"r{number}", str(subnet)) for number, subnet in enumerate(subnets)}
    before = {name: protection.refusal(route) for name, route in routes.items()}
    for number, change in enumerate(changes):
        source = f"s{number % 3}"
        protected[source] = change
        changed = protection.protect(source, (ProtectedSubnet(each, source) for each in change))
        after = {name: protection.refusal(route) for name, route in routes.items()}
        assert changed == {name for name in routes if after[name] != before[name]}
        assert {name for name in routes if after[name]} == naively_refused(routes, protected)
        before = after


def naively_refused(routes: Mapping[str, StaticRoute], protected: Mapping[str, list[Any]]) -> set[str]:
    everything = list(chain.from_iterable(protected.values()))
    return {name for name, route in routes.items() if naive_overlap(everything, route.subnets[0])}


def test_a_node_that_joins_leaves_the_decisions_on_other_subnets_alone() -> None:
    protection = Protection()
    routes = [static_route(f"r{number}", f"10.{number}.0.0/16") for number in range(200)]
    compared = 0
    find_overlap = protection.find_overlap

    def counting(subnet: Any) -> str:
        nonlocal compared
        compared += 1
        return find_overlap(subnet)

    protection.find_overlap = counting  # type: ignore[method-assign]
    for number in range(50):
        assert not [route for route in routes if protection.refusal(route)]
        protection.protect(f"n{number}", [ProtectedSubnet(ip_network(f"172.16.0.{number}"), "address of a node")])
    assert compared == len(routes)


def test_a_static_route_that_was_edited_or_deleted_is_not_decided_by_its_earlier_subnet() -> None:
    protection = Protection((SERVICES,))
    assert protection.refusal(static_route("r1", "10.96.1.0/24"))
    assert not protection.refusal(static_route("r1", "10.7.0.0/16"))
    assert protection.protect("n1", [ProtectedSubnet(ip_network("10.7.0.1"), "address of node n1")]) == {"r1"}
    protection.forget("r1")
    assert protection.protect("n1", ()) == set()


# --- Nodes -----------------------------------------------------------------------------------------------------------


def test_no_route_is_accepted_while_not_all_protected_subnets_are_known() -> None:
    protection = Protection(unknown="services: 403 Forbidden")
    route = static_route("r1", "10.5.0.0/16")
    assert protection.refusal(route) == ("ProtectedSubnetsUnknown", "services: 403 Forbidden")
    assert protection.set_unknown("") == {"r1"}
    assert protection.refusal(route) is None


class CountingProtection(Protection):
    def __init__(self, *arguments: Any) -> None:
        self.compared = 0
        self.turns = Turns()
        super().__init__(*arguments)

    def find_overlap(self, subnet: IpNetwork) -> str:
        self.compared += 1
        self.turns.step()
        return super().find_overlap(subnet)


def test_a_static_route_is_compared_again_only_after_a_change_of_its_subnets() -> None:
    protection = CountingProtection((SERVICES,))
    subnets = [f"10.20.{number}.0/24" for number in range(50)]
    static_routes = [
        static_route("r1", subnets=subnets, generation=1),
        static_route("r1", subnets=subnets, generation=1, status={"desired": 7}),
        static_route("r1", subnets=subnets, generation=2, metric=7),
    ]
    assert [protection.refusal(each) for each in static_routes] == [None] * 3
    assert protection.compared == len(static_routes[0].subnets)
    assert protection.refusal(static_route("r1", "10.96.7.0/24", generation=3)) is not None
    assert protection.refusal(static_route("r1", "10.97.7.0/24", generation=4)) is None


def test_a_static_route_with_another_status_is_still_found_by_a_subnet_that_becomes_protected() -> None:
    protection = Protection()
    assert protection.refusal(static_route("r1", "10.96.7.0/24")) is None
    present = static_route("r1", "10.96.7.0/24", status={"desired": 7})
    assert protection.refusal(present) is None
    assert protection.protect("services", (SERVICES,)) == {"r1"}
    assert protection.refusal(present) is not None


async def test_a_new_leader_gives_the_event_loop_a_turn_after_each_static_route() -> None:
    caches = Caches()
    protection = caches.protected.protection = CountingProtection()
    static_routes = [raw_static_route(f"r{number}", f"10.20.{number}.0/24") for number in range(50)]
    caches.routes.replace(Listing(tuple(static_routes), "1"))
    async with protection.turns.counted():
        await caches.protected.check_all()
    assert (protection.compared, protection.turns.longest) == (50, 1)
    for route in caches.routes.values():
        assert protection.refusal(route) is None
    assert protection.compared == 50, "the plan of the slices compares none again"
