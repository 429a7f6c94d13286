"""The nodes whose reports list exceptions, by what these are about."""

from typing import Final

from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.static_route_index import NamesBy
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey


class Reported:
    """Follows the tables of the nodes."""

    def __init__(self) -> None:
        self.failing: NamesBy[RouteKey] = NamesBy()
        self.not_needed: NamesBy[str] = NamesBy()
        """By StaticRoute."""
        self.probing: NamesBy[str] = NamesBy()
        """By StaticRoute: nodes where a route probe is in progress or has failed."""
        self.silent: NamesBy[IpAddress] = NamesBy()
        """By gateway: nodes that cannot use it."""
        self.default_silent: set[str] = set()
        """Nodes that cannot use the gateway of routes without one."""
        self.unlisted: set[str] = set()
        """Nodes on which more routes fail than the report lists."""
        self.earlier: set[str] = set()
        """Nodes with an agent of an earlier version."""
        self.probed: set[str] = set()
        """Nodes with the result of a probe of any gateway."""

    def update(self, name: str, before: NodeTable | None, after: NodeTable | None) -> None:
        """Replace what the table of a node has; None: it is no node any more."""
        was, now = before or _NOTHING, after or _NOTHING
        self.failing.replace(name, was.failures.keys(), now.failures.keys())
        self.not_needed.replace(name, was.not_needed.keys(), now.not_needed.keys())
        self.probing.replace(name, was.route_probes.keys(), now.route_probes.keys())
        self.silent.replace(name, was.silent.keys(), now.silent.keys())
        for nodes, is_member in (
            (self.default_silent, now.default_gateway in now.silent),
            (self.unlisted, now.has_unlisted_failures),
            (self.earlier, now.earlier is not None),
            (self.probed, now.has_probed),
        ):
            (nodes.add if is_member else nodes.discard)(name)


_NOTHING: Final = NodeTable.index(Node("", "", {}), NodeOverlay.parse({}))
