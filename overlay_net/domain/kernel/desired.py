"""Desired state of this node's kernel, from its NodeOverlayIp and the agent's settings."""

from dataclasses import dataclass, replace
from hashlib import sha256

from overlay_net.domain.kernel.parent_interface import InterfaceSelector, choose_parent, explain_missing
from overlay_net.model.kernel import Desired, DesiredLink, LinkMode, MacvlanMode, Observed, OwnershipMark
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.policy_rule import PrivateTable, SourceRouting, SourceTable


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """How this node configures its overlay address."""

    parent: InterfaceSelector
    name: str = "tmp0"
    mode: LinkMode = "macvlan"
    macvlan_mode: MacvlanMode = "bridge"
    mac: str = ""
    """The MAC of a new macvlan; empty: derived from the names of cluster, node and link."""
    fallback: IpNetwork | None = None
    """Without an overlay link, routes without a gateway use the gateway of the node's own route to this subnet."""
    source: SourceTable | None = None
    """None: source routing is disabled; only the main table routes traffic from the overlay address."""
    private: PrivateTable | None = None
    """The same for traffic from the private addresses, on a node with a link of its own for the overlay address."""
    node_ip: IpAddress | None = None
    """The InternalIP of the node; None: unknown."""


def link_config_for(overlay: NodeOverlay | None, config: LinkConfig) -> LinkConfig:
    """Return the configuration of this node: the MAC of its link, and no link if its object has routes only."""
    if overlay is None:
        return config
    mode = "none" if overlay.routes_only else config.mode
    return replace(config, mode=mode, mac=config.mac or stable_mac(overlay.name, config.name, overlay.cluster))


def stable_mac(node: str, link: str, cluster: str = "") -> str:
    """Return the MAC of a node's macvlan; a re-created link has the same one, so neighbours' caches remain valid.

    Nodes of two clusters may have the same name and share a VLAN, so the id of the cluster is part of it. In the first
    byte, the bit "locally administered" is set and the bit "group" is not (IEEE 802, 8.2.2).
    """
    digest = sha256("/".join(filter(None, (cluster, node, link))).encode()).digest()[:6]
    return bytes([digest[0] & 0xFC | 0x02, *digest[1:]]).hex(":")


def desired_link(config: LinkConfig, observed: Observed, mark: OwnershipMark) -> DesiredLink:
    """Return the link of the overlay address, with the parent interface that exists now."""
    parent = choose_parent(config.parent, observed, mark, config.name) or ""
    missing = "" if parent else explain_missing(config.parent)
    group = mark.group if config.private is not None else 0
    match config.mode:
        case "address":
            return DesiredLink(parent, parent, "address", missing=missing)
        case "none":
            return DesiredLink("", parent, "none", missing=missing)
        case "ipvlan":
            return DesiredLink(config.name, parent, "ipvlan", missing=missing, group=group)
        case "macvlan":
            return DesiredLink(config.name, parent, "macvlan", config.macvlan_mode, config.mac, missing, group)


def desired_state(
    overlay: NodeOverlay | None,
    link: DesiredLink,
    fallback: IpNetwork | None = None,
    source: SourceTable | None = None,
    private: PrivateTable | None = None,
) -> Desired:
    """Return the desired kernel state, which is empty if the object is absent or being deleted.

    While the object has no address in its status, the address that this node has reported is kept: only the deletion of
    the object removes the address.
    """
    if overlay is None or overlay.deleting:
        return Desired()
    kept = Desired(
        routes=overlay.routes,
        interface=link.parent,
        adoptable=overlay.adoptable,
        keeps_routes=overlay.unknown_sets is not None and overlay.unknown_sets.since_start,
    )
    if link.kind == "none":
        return replace(kept, fallback=fallback)
    address = overlay.assignment.address or overlay.report.configured
    if address is None:
        return kept
    routing = SourceRouting(source, overlay.assignment.gateway) if source is not None else None
    return replace(
        kept,
        link=link,
        address=address,
        gateway=overlay.assignment.gateway,
        source=routing,
        # With link_mode address the routes of the overlay are on the private interface itself.
        private=private if link.kind != "address" else None,
    )
