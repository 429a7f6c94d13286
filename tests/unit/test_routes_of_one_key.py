"""Several routes with the key of one of ours, in every order: foreign ones stay, and one that wins is reported."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.same_key import extra_hops
from overlay_net.model.kernel import Desired
from overlay_net.model.kernel_actions import KernelPlan
from overlay_net.model.route import NextHop, Route
from tests.fakes.kernel import FakeKernel
from tests.unit.test_kernel_plan import MARK, converge, desired, machine, route

SUBNET = ip_network("10.1.0.0/16")
GATEWAYS = [f"192.168.100.{number}" for number in (1, 2, 3)]


def settle(kernel: FakeKernel, state: Desired) -> KernelPlan:
    last: KernelPlan | None = None
    for _ in range(8):
        plan = plan_kernel(state, kernel.observe(), MARK)
        if not plan.actions or plan == last:
            return plan
        last = plan
        for action in plan.actions:
            kernel.apply(action)
    raise AssertionError(f"does not settle: {plan}")


def entry(kernel: FakeKernel, protocol: int, gateway: str) -> Route:
    """A route to SUBNET over the overlay link."""
    link = next(each.index for each in kernel.links.values() if each.name == "tmp0")
    source = ip_address("192.168.100.4") if protocol == MARK.protocol else None
    return Route(SUBNET, (NextHop(ip_address(gateway), link),), protocol, source=source)


entries = st.lists(
    st.tuples(st.sampled_from([MARK.protocol, 4, 186]), st.sampled_from(GATEWAYS)), max_size=5, unique=True
)


@given(entries, st.sampled_from([None, *GATEWAYS]))
def test_foreign_routes_stay_and_ours_is_the_first_or_reported(
    present: list[tuple[int, str]], gateway: str | None
) -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired())
    added = [entry(kernel, protocol, via) for protocol, via in present]
    kernel.routes += added
    foreign = [each for each in added if each.protocol != MARK.protocol]
    routes = [] if gateway is None else [route(str(SUBNET), gateway)]
    plan = settle(kernel, desired(*routes))
    assert plan.actions == ()
    left = [each for each in kernel.routes if each.subnet == SUBNET]
    assert [each for each in left if each.protocol != MARK.protocol] == foreign
    if gateway is None:
        assert left == foreign
    elif plan.problems:
        assert [(each.reason, each.route) for each in plan.problems] == [("ForeignRoute", routes[0])]
        assert not plan.problems[0].message.startswith(str(SUBNET)), "it is beside the message wherever that is shown"
        assert left[0].protocol != MARK.protocol
    else:
        assert left[0] == entry(kernel, MARK.protocol, gateway)


def hops(*gateways: str, link: int = 3) -> tuple[NextHop, ...]:
    return tuple(NextHop(ip_address(each), link) for each in gateways)


A, B, C = "fd00::1", "fd00::2", "fd00::3"


@pytest.mark.parametrize(
    ("found", "target", "deleted"),
    [
        (hops(A), hops(B), ()),
        (hops(A), hops(A, B), ()),
        (hops(A, B), hops(A), hops(B)),
        (hops(A, B, C), hops(A), hops(B, C)),
        (hops(A, B), hops(A, B, C), ()),
        (hops(A, B), hops(A, C), hops(B)),
        (hops(A, B), hops(C), hops(B)),
        (hops(A, B, C), (), hops(B, C)),
        (hops(A, B), hops(A, B, link=4), hops(B)),
    ],
)
def test_next_hops_of_an_ipv6_route_are_deleted_before_it_is_replaced(
    found: tuple[NextHop, ...], target: tuple[NextHop, ...], deleted: tuple[NextHop, ...]
) -> None:
    kind = "unicast" if target else "blackhole"
    one = Route(ip_network("fd01::/64"), found, MARK.protocol)
    assert extra_hops(one, Route(ip_network("fd01::/64"), target, MARK.protocol, kind=kind)) == deleted  # type: ignore[arg-type]


def test_an_ipv4_route_is_replaced_with_all_its_next_hops() -> None:
    one = Route(SUBNET, hops(*GATEWAYS), MARK.protocol)
    assert extra_hops(one, Route(SUBNET, hops(GATEWAYS[0]), MARK.protocol)) == ()
