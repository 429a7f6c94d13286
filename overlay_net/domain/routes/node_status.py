"""Computes the status of one StaticRoute on one node from the slices, the NodeOverlayIp and the report in it.

A StaticRoute is in place on a node that has observed the slice since the entry of the StaticRoute got its present
form, unless the report lists a failure. What the agent has not observed of other StaticRoutes does not matter. A report
about another instance of the node does not count at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from overlay_net.domain.routes.earlier_agent import earlier_outcome, has_entries
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.occurrences import Occurrence, Occurrences, route_keys
from overlay_net.domain.routes.outcome import (
    FAILED,
    IN_PLACE,
    NOT_NEEDED,
    NOT_REPORTED,
    PENDING,
    UNLISTED,
    Outcome,
    rolling_out,
)
from overlay_net.domain.routes.route_conflicts import RouteConflicts, applies
from overlay_net.domain.routes.route_sets import rollout_set_prefix, route_set_name
from overlay_net.model.api import JsonObject
from overlay_net.model.net import IpNetwork
from overlay_net.model.route_key import RouteKey
from overlay_net.model.static_route import StaticRoute

NOT_NAMED = Outcome(PENDING, "not in the NodeOverlayIp yet")


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One entry of nodeStatus."""

    hostname: str
    gateway: str
    device: str
    outcome: Outcome

    def to_json(self) -> JsonObject:
        raw: JsonObject = {"hostname": self.hostname, "gateway": self.gateway, "device": self.device}
        raw["state"] = self.outcome.state
        if self.outcome.message:
            raw["message"] = self.outcome.message
        return raw


class NodeRoute:
    """One StaticRoute, and what decides about it on each node."""

    def __init__(self, route: StaticRoute, occurrences: Occurrences, refused: tuple[str, str] | None) -> None:
        self.route = route
        self.refused = refused
        self.home = route_set_name(route)
        self.keys: Mapping[RouteKey, IpNetwork] = dict(zip(route_keys(route), route.subnets, strict=True))
        self.all_occurrences = tuple(occurrences.of_route(route.name))
        self.occurrences = tuple(each for each in self.all_occurrences if _revision(each) == route.revision)
        self._complete = {each.slice for each in self.occurrences if each.keys >= self.keys.keys()}
        """The slices that have all routes of the present revision; it may get some of them later."""
        self.conflicts = RouteConflicts(route, self.keys, occurrences)
        self._rollout_prefix = rollout_set_prefix(route.name)

    @property
    def only_occurrence(self) -> Occurrence | None:
        """The occurrence that decides about every node in the same way; None: each node must be examined."""
        if self.refused is not None or self.conflicts or len(self.occurrences) != 1:
            return None
        (occurrence,) = self.occurrences
        is_simple = occurrence.route_set == self.home and occurrence.slice in self._complete
        return occurrence if is_simple and occurrence.entry.closed_since is None else None

    def needed_on(self, table: NodeTable) -> bool:
        """Return whether a selected node must have the route, or keeps it although it is refused."""
        if self.refused is None:
            return True
        if table.earlier is not None:
            return has_entries(self.route, table.earlier)
        return any(applies(occurrence, table) for occurrence in self.all_occurrences)

    def status(self, table: NodeTable) -> NodeStatus:
        return NodeStatus(table.node.name, self._gateway(table), self._device(table), self.outcome(table))

    def outcome(self, table: NodeTable) -> Outcome:
        if table.earlier is not None:
            return earlier_outcome(self.route, table, table.earlier)
        named = [occurrence for occurrence in self.occurrences if occurrence.route_set in table.sets]
        observed = any(table.observed.get(each.slice, -1) >= each.entry.slice_generation for each in named)
        return (
            self._rollout_outcome(table, is_updated=bool(named))
            or self._probe_outcome(table)
            or self._routes_outcome(table, has_observed=observed)
            or self._pending_outcome(table, named)
            or (self._report_outcome(table) if observed else _not_observed(table))
        )

    def _rollout_outcome(self, table: NodeTable, *, is_updated: bool) -> Outcome | None:
        if self.route.rollout is None or is_updated or self.home in table.sets:
            return None
        prefix = self._rollout_prefix
        earlier = sorted((name.rpartition("-")[2] for name in table.sets if name.startswith(prefix)), key=_number)
        return rolling_out(f"generation {earlier[-1]}" if earlier else "its previous routes")

    def _probe_outcome(self, table: NodeTable) -> Outcome | None:
        found = table.route_probes.get(self.route.name)
        if found is None or (found.uid, found.generation) != self.route.revision:
            return None
        return Outcome(PENDING if found.state == "Probing" else FAILED, found.message, found.state)

    def _routes_outcome(self, table: NodeTable, *, has_observed: bool) -> Outcome | None:
        """Return the first conflict or failure, in the order of the subnets, else None."""
        conflicts = self.conflicts.on_node(table)
        failures = table.failures if has_observed else {}
        if not conflicts and not failures:
            return None
        for key, subnet in self.keys.items():
            if key in conflicts:
                return conflicts[key]
            if key in failures:
                failure = failures[key]
                return Outcome(PENDING if failure.reason == "Pending" else FAILED, f"{subnet}: {failure.message}")
        return None

    def _pending_outcome(self, table: NodeTable, named: list[Occurrence]) -> Outcome | None:
        """The outcome if the slices do not have the routes for this node, else None."""
        if not self.occurrences:
            return Outcome(PENDING, "not in a route slice yet")
        if not named:
            return NOT_NAMED
        has_all = any(each.slice in self._complete and applies(each, table) for each in named)
        return None if has_all else NOT_NAMED

    def _report_outcome(self, table: NodeTable) -> Outcome:
        not_needed = table.not_needed.get(self.route.name)
        if not_needed is not None:
            return Outcome(NOT_NEEDED, not_needed.message)
        return UNLISTED if table.has_unlisted_failures else IN_PLACE

    def _gateway(self, table: NodeTable) -> str:
        spec = self.route.spec
        if not spec.gateways and spec.kind == "unicast":
            return str(table.default_gateway or "")
        return ", ".join(str(gateway.address) for gateway in spec.gateways)

    def _device(self, table: NodeTable) -> str:
        """Return the overlay link if the gateway is in the overlay subnet, else its parent interface."""
        report, gateways = table.overlay.report, self.route.spec.gateways
        if table.overlay.routes_only:
            return report.interface
        address = table.overlay.assignment.address
        direct = bool(gateways) and (address is None or gateways[0].address not in address.network)
        return report.interface if direct else report.link


def _revision(occurrence: Occurrence) -> tuple[str, int]:
    return occurrence.entry.uid, occurrence.entry.generation


def _number(digits: str) -> tuple[int, str]:
    """Return the sort key of numbers as text."""
    return len(digits), digits


def _not_observed(table: NodeTable) -> Outcome:
    return Outcome(PENDING, table.unknown_sets) if table.unknown_sets else NOT_REPORTED
