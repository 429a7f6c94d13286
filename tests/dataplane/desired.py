"""Desired states for tests, and the kernel brought to them."""

from ipaddress import ip_address, ip_interface, ip_network

from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.kernel import Desired, DesiredLink
from overlay_net.model.kernel_actions import KernelPlan
from tests.dataplane.conftest import LINKS, MARK

LINK = DesiredLink("tmp0", "eth0")
OVERLAY = ip_interface("192.168.100.4/24")


def route(subnet: str, *gateways: str, metric: int = 0) -> DesiredRoute:
    hops = tuple(Gateway(ip_address(each)) for each in gateways or ("192.168.100.1",))
    return DesiredRoute.to(ip_network(subnet), RouteSpec(hops, metric), "r")


def desired(*routes: DesiredRoute, address: str = "192.168.100.4/24") -> Desired:
    return Desired(LINK, ip_interface(address), routes)


async def converge(kernel: Kernel, state: Desired) -> KernelPlan:
    """Observe, plan and apply as the agent does; the last plan."""
    for _ in range(5):
        plan = plan_kernel(state, await kernel.observe(LINKS), MARK)
        if not plan.actions:
            return plan
        for action in plan.actions:
            await kernel.apply(action)
    raise AssertionError(f"does not converge: {plan}")
