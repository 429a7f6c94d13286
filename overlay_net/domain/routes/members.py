"""The nodes that a selector selects, and how far they are with the route sets of its StaticRoutes."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.slice_progress import NOT_NAMED, NOT_OBSERVED, SliceProgress
from overlay_net.model.node import Node
from overlay_net.model.static_route import StaticRoute


class Members:
    """Shared by all StaticRoutes with the selector of ``route``, by whose name they are in ``routes``."""

    def __init__(self, route: StaticRoute, tables: Iterable[tuple[str, NodeTable]]) -> None:
        self.selects_as = route
        self.routes: set[str] = set()
        self.nodes = sorted(name for name, table in tables if route.selects(table.node))
        """Names of the nodes, in order."""
        self.sets: dict[str, dict[str, SliceProgress]] = {}
        """Progress with each slice of each set, by names of set and slice."""

    def selects(self, node: Node) -> bool:
        return self.selects_as.selects(node)

    def add_set(self, name: str, generations: Mapping[str, int], tables: Mapping[str, NodeTable]) -> None:
        """Follow a set whose slices have these generations."""
        self.sets[name] = {}
        for each, generation in generations.items():
            self.set_generation(name, each, generation, tables)

    def set_generation(
        self, route_set: str, slice_name: str, generation: int | None, tables: Mapping[str, NodeTable]
    ) -> None:
        """Follow a slice of a set in this generation; None: it does not exist."""
        progress = self.sets[route_set].get(slice_name)
        if generation is None:
            self.sets[route_set].pop(slice_name, None)
        elif progress is not None:
            progress.advance(generation, self.nodes)
        else:
            progress = self.sets[route_set][slice_name] = SliceProgress(generation)
            for node in self.nodes:
                progress.move(node, None, position(tables[node], route_set, slice_name))

    def replace(self, name: str, before: NodeTable | None, after: NodeTable | None) -> None:
        """Replace what a node has; None: it is not selected."""
        if before is None:
            self.nodes.insert(bisect_left(self.nodes, name), name)
        elif after is None:
            del self.nodes[bisect_left(self.nodes, name)]
        for progress, was, now in self._moves(before, after):
            progress.move(name, was, now)

    def _moves(
        self, before: NodeTable | None, after: NodeTable | None
    ) -> Iterator[tuple[SliceProgress, int | None, int | None]]:
        for route_set, slices in self.sets.items():
            for slice_name, progress in slices.items():
                was, now = (
                    None if table is None else position(table, route_set, slice_name) for table in (before, after)
                )
                if was != now:
                    yield progress, was, now


def position(table: NodeTable, route_set: str, slice_name: str) -> int:
    """Return the generation of a slice that the node has reported, or why it has none."""
    return table.observed.get(slice_name, NOT_OBSERVED) if route_set in table.sets else NOT_NAMED
