"""The planner's memory of its last call: it saves work and never changes a plan."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.routes import RoutePlanner
from overlay_net.model.kernel import Observed
from overlay_net.model.kernel_actions import DeleteRoute
from tests.fakes.kernel import FakeKernel
from tests.unit.test_kernel_plan import MARK, converge, desired, machine, route


def observe() -> Observed:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route("10.1.0.0/16"), route("10.2.0.0/16")))
    return kernel.observe()


def test_the_same_inputs_give_the_same_plan_object() -> None:
    planner, observed = RoutePlanner(MARK), observe()
    link = next(each for each in observed.links if each.name == "tmp0")
    target = desired(route("10.1.0.0/16"), route("10.2.0.0/16"))
    plan = planner.plan(target, observed, link)
    assert planner.plan(replace(target), replace(observed), link) is plan
    assert len(plan.placed) == 2


def test_every_changed_input_gives_a_plan_of_its_own() -> None:
    planner, observed = RoutePlanner(MARK), observe()
    link = next(each for each in observed.links if each.name == "tmp0")
    target = desired(route("10.1.0.0/16"), route("10.2.0.0/16"))
    fewer = replace(target, routes=target.routes[:1])
    gone = replace(observed, routes=())
    down = replace(target, down=frozenset({ip_address("192.168.100.1")}))
    moved = replace(target, address=ip_interface("192.168.100.9/24"))
    for inputs in ((fewer, observed), (target, gone), (down, observed), (moved, observed), (target, observed)):
        assert planner.plan(*inputs, link) == RoutePlanner(MARK).plan(*inputs, link)
    assert [type(each) for each in planner.plan(fewer, observed, link).deletions] == [DeleteRoute]
    assert plan_kernel(fewer, observed, MARK).actions
