"""The writes of route slices: one for a change of one StaticRoute, and what moves is never in no slice."""

from collections.abc import Callable

from overlay_net.domain.routes.slice_layout import MAX_ROUTES
from tests.unit.slice_cluster import Cluster


def subnets(first: int, count: int) -> list[str]:
    return [f"10.{number // 256}.{number % 256}.0/24" for number in range(first, first + count)]


def started(count: int = 0, *nodes: str) -> Cluster:
    """A cluster with as many StaticRoutes of one subnet, in place on every node."""
    made = Cluster()
    for number, subnet in enumerate(subnets(0, count)):
        made.create(f"r{number}", subnet)
    for name in nodes or ("n1", "n2"):
        made.join(name)
    made.settle(4)
    made.writes.clear()
    return made


def test_many_staticroutes_fill_few_slices_and_every_node_has_them() -> None:
    made = started(300)
    assert sorted(len(each.content.entries) for each in made.api.slices.values()) == [44, MAX_ROUTES, MAX_ROUTES]
    assert all(len(made.entries(name)) == 300 for name in made.nodes)
    assert not made.plan().steps


def test_each_change_of_one_staticroute_is_one_write() -> None:
    made = started(300)
    changes: tuple[Callable[[], None], ...] = (
        lambda: made.create("new", "10.200.0.0/24"),
        lambda: made.edit("new", "10.200.0.0/24", gateway="192.168.100.1"),
        lambda: made.edit("new", "10.200.1.0/24", "10.200.2.0/24"),
        lambda: made.refuse("new"),
        lambda: made.refuse("new", False),
        lambda: made.delete("new"),
    )
    for change in changes:
        made.writes.clear()
        change()
        made.settle(2)
        assert len(made.writes) == 1
        assert not made.plan().steps
    assert len(made.entries("n1")) == 300
