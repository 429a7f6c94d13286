"""Staged rollout: which nodes get the current generation of a StaticRoute now, and which keep the previous one.

Progress is read from the NodeOverlayIps, so a restarted controller resumes where it stopped. A node that has not
reported the generation in place, for any reason, counts as unavailable, so a generation that fails stops the rollout.
Removals (deleting a StaticRoute, or no longer selecting a node) are not staged, because they cannot fail on the node.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from overlay_net.domain.routes.node_states import NodeStates
from overlay_net.domain.routes.status_index import StatusIndex
from overlay_net.model.parse import parse_time
from overlay_net.model.static_route import Rollout, StaticRoute


def admit(index: StatusIndex, route: StaticRoute, rollout: Rollout, admitted: Collection[str]) -> frozenset[str]:
    """Return the nodes that may have the generation now, including ``admitted`` ones that are still selected.

    ``route`` is not refused.
    """
    states = NodeStates(index, route, None)
    kept_back = list(states.names_kept_back())
    chosen = choose(
        kept_back,
        states.total - len(kept_back) - states.ready - states.not_needed,
        rollout.limit(states.total),
        admitted,
        lambda name: index.tables[name].fails(route.name),
    )
    return chosen.union(states.nodes).difference(set(kept_back) - chosen)


def choose(
    kept_back: Iterable[str],
    unavailable: int,
    limit: int,
    admitted: Collection[str],
    fails: Callable[[str], bool],
) -> frozenset[str]:
    """Return which nodes of ``kept_back``, which are in order, may be updated now, including ``admitted`` ones.

    ``unavailable`` is the number of updated nodes on which the generation is not in place. At most ``limit`` are
    unavailable. Nodes for which ``fails`` are updated first, as an update cannot make it worse there.
    """
    before = [name for name in kept_back if name in admitted]
    room = limit - unavailable - len(before)
    if room <= 0:
        return frozenset(before)
    waiting = [name for name in kept_back if name not in admitted]
    failing = [name for name in waiting if fails(name)]
    return frozenset(before).union([*failing, *(name for name in waiting if not fails(name))][:room])


def is_later(created: datetime | None, route: StaticRoute) -> bool:
    """Return whether something was created after the StaticRoute."""
    route_created = parse_time(route.created)
    return created is not None and route_created is not None and created > route_created
