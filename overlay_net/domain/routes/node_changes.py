"""What is different between two states of one node, as far as the status of StaticRoutes depends on it."""

from collections.abc import Iterator, Mapping, Set
from typing import Any, TypeVar

from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.slice_progress import NOT_OBSERVED
from overlay_net.domain.routes.status_changes import Priority

K = TypeVar("K")
V = TypeVar("V")


class NodeChange:
    """Both states are of a node that may have routes."""

    def __init__(self, before: NodeTable, after: NodeTable) -> None:
        self._before = before
        self._after = after

    @property
    def concerns_all(self) -> bool:
        """Whether every StaticRoute of the node is concerned."""
        return _shared_part(self._before) != _shared_part(self._after) or self._is_of_earlier_agent()

    @property
    def common_priority(self) -> Priority:
        """The priority of every StaticRoute of the node if all are concerned."""
        # Any of them may be one that begins or ceases to fail.
        fails = self._before.common_faults != self._after.common_faults
        return Priority.URGENT if fails else Priority.GRADUAL

    @property
    def slice_priority(self) -> Priority:
        """The priority of the StaticRoutes in ``slices``: gradual for the first report of an agent."""
        before, after = (table.overlay.report.observed_slices is None for table in (self._before, self._after))
        return Priority.USUAL if before == after else Priority.GRADUAL

    def _is_of_earlier_agent(self) -> bool:
        """Return whether the agent is of an earlier version: its report is about all routes."""
        return self._before.earlier is not None or self._after.earlier is not None

    @property
    def failing(self) -> Set[int]:
        """The keys of routes that have another failure than before, or none any more."""
        return differing(self._before.failures, self._after.failures)

    @property
    def probed(self) -> Set[str]:
        """The StaticRoutes with another result of a route probe."""
        return differing(self._before.route_probes, self._after.route_probes)

    @property
    def not_needed(self) -> Set[str]:
        """The StaticRoutes that are not needed now, or needed again."""
        return differing(self._before.not_needed, self._after.not_needed)

    @property
    def silent(self) -> Set[Any]:
        """The gateways that cannot be used now, or can be used again."""
        return differing(self._before.silent, self._after.silent)

    @property
    def sets(self) -> Set[str]:
        """The route sets that the node has or had, or has since another time."""
        return differing(self._before.sets, self._after.sets)

    def slices(self) -> Iterator[tuple[str, int, int]]:
        """Yield each slice of which another generation is observed, with the lower and the higher one."""
        before, after = self._before.observed, self._after.observed
        for name in differing(before, after):
            was, now = before.get(name, NOT_OBSERVED), after.get(name, NOT_OBSERVED)
            yield name, min(was, now), max(was, now)


def differing(before: Mapping[K, V], after: Mapping[K, V]) -> Set[K]:
    """Return the keys that only one of both has, or with different values."""
    if before == after:
        return frozenset()
    return {key for key in before.keys() | after.keys() if key not in before or before.get(key) != after.get(key)}


def _shared_part(table: NodeTable) -> tuple[object, ...]:
    """Return what the status of each StaticRoute of the node depends on."""
    overlay = table.overlay
    return (
        table.has_report,
        table.has_probed,
        table.common_faults,
        table.own_addresses,
        table.default_gateway,
        overlay.routes_only,
        overlay.assignment.gateway,
        overlay.assignment.address,
        overlay.report.interface,
        overlay.report.link,
    )
