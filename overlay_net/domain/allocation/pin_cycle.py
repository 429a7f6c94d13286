"""Nodes whose specs pin each other's present address: one of them gives way to a free address, then all get theirs."""

from dataclasses import replace

from overlay_net.domain.allocation.placement import usable_pools
from overlay_net.domain.allocation.pool_addresses import may_hand_out
from overlay_net.domain.allocation.reservation_plan import Refusal
from overlay_net.model.node_actions import Holder, NodeView
from overlay_net.model.overlay import NodeOverlay


def gives_way(view: NodeView, overlay: NodeOverlay) -> bool:
    """Return whether this node breaks a cycle of pins: it has the first name of the cycle, and each pin is allowed."""
    cycle = _find_cycle(view, overlay)
    if not cycle or overlay.name != min(each.overlay.name for each in cycle):
        return False
    return all(_may_pin(view, each) for each in cycle)


def explain_cycle(view: NodeView, overlay: NodeOverlay, refusal: Refusal) -> Refusal:
    """Return the refusal of a pin after no free address was found: a node that must give way reports what it needs."""
    if not gives_way(view, overlay):
        return refusal
    names = ", ".join(sorted(each.overlay.name for each in _find_cycle(view, overlay)))
    message = f"nodes {names} are pinned to each other's addresses: to exchange them, this node needs one free address"
    return replace(refusal, message=f"spec.ipAddr: {message}; add a pool, or change the pins")


def _find_cycle(view: NodeView, overlay: NodeOverlay) -> list[Holder]:
    """Follow each pin to the node that has its address; empty unless that comes back to this node."""
    found: dict[str, Holder] = {}
    pin = overlay.pin
    while pin is not None:
        holder = view.find_holder(pin)
        if holder is None or holder.overlay.name in found:
            return []
        found[holder.overlay.name] = holder
        if holder.overlay.name == overlay.name:
            return list(found.values()) if len(found) > 1 else []
        pin = holder.overlay.pin
    return []


def _may_pin(view: NodeView, holder: Holder) -> bool:
    pin = holder.overlay.pin
    return pin is not None and any(may_hand_out(pool, pin) for pool in usable_pools(view, holder.node))
