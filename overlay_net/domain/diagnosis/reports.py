"""Checks of what pools and nodes report in their conditions, each reason with how to fix it."""

from collections.abc import Iterator, Mapping
from typing import Final

from overlay_net.domain.diagnosis.control_plane import fix_missing
from overlay_net.domain.diagnosis.finding import PROBLEM, WARNING, Finding
from overlay_net.domain.diagnosis.pods import explain_pod, find_component, find_node
from overlay_net.domain.diagnosis.snapshot import Snapshot, Unread, known
from overlay_net.model.conditions import (
    ADDRESS_CLAIMED,
    AGENT_STALE,
    CONSISTENT,
    GATEWAY_REACHABLE,
    MAC_CONFLICT,
    READY,
    Condition,
    find_condition,
)
from overlay_net.model.net import IpAddress
from overlay_net.model.node_report import GATEWAY_DOWN
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import find_name

IPAM_UNAVAILABLE: Final = "IpamUnavailable"
SEE_REASON: Final = "see the reason in docs/reference/conditions.md"
CREDENTIALS: Final[Mapping[str, str]] = {
    "CredentialsRefused": "correct the Secret with the credentials of phpIPAM, or the permissions of its API app",
    "IpamRefused": "grant the API app of phpIPAM read and write access to the subnet",
    "IpamNotConfigured": "set phpIPAM.url of the chart, or delete the pool",
}
PARENTS: Final[Mapping[str, str]] = {
    "ParentMissing": "set agent.settings.interface of the chart to the private interface of the node",
    "ParentInUse": "choose another interface, or link_mode: another driver uses the parent interface",
    "ParentNotEthernet": "choose an Ethernet interface: agent.settings.interface",
    "ParentInVrf": "choose an interface outside of a VRF: agent.settings.interface",
    "LinkNameTaken": "rename the foreign link, or set agent.settings.link_name",
    "KernelTooOld": "upgrade the kernel, or disable the setting in the message",
    "KernelRefused": "load the kernel module of the link mode, such as macvlan, or choose another link_mode",
}
CONFLICTS: Final[Mapping[str, str]] = {
    "AddressConflict": "find the host with this MAC address on the VLAN, and give it another address",
    ADDRESS_CLAIMED: "find the host with this MAC address on the VLAN, and give it another address",
    "AddressShared": "remove the address from the other link of this node",
    MAC_CONFLICT: "delete the overlay link on one of the two hosts: the new one has another MAC address",
}
OTHERS: Final = frozenset({"CheckpointStored", "MetricsServed", "RouteSetsKnown", "RoutesWithdrawn", "UpToDate"})
"""Types of conditions of a node that are False only if something is wrong, and that no other check is about."""


def check_ipam(snapshot: Snapshot) -> Iterator[Finding]:
    for subject, condition in _conditions(snapshot):
        if condition.reason == IPAM_UNAVAILABLE and condition.status is False:
            fix = "check URL, certificate and network path from the controllers to phpIPAM; nodes keep their addresses"
            yield Finding(PROBLEM, f"the IPAM cannot be reached: {condition.message}", fix, (subject,))


def check_credentials(snapshot: Snapshot) -> Iterator[Finding]:
    for subject, condition in _conditions(snapshot):
        if condition.reason in CREDENTIALS and condition.status is False:
            what = f"the IPAM refuses the controllers: {condition.message}"
            yield Finding(PROBLEM, what, CREDENTIALS[condition.reason], (subject,))


def _conditions(snapshot: Snapshot) -> Iterator[tuple[str, Condition]]:
    """Yield the conditions that the controller writes about pools and reservations."""
    for pool in known(snapshot.pools):
        yield from ((f"pool {pool.name}", each) for each in pool.conditions)
    for node, overlay in snapshot.examined:
        reserved = overlay.assignment.reserved if overlay is not None else None
        if reserved is not None:
            yield f"node {node.name}", reserved


def check_pools(snapshot: Snapshot) -> Iterator[Finding]:
    pools = known(snapshot.pools)
    if not pools and snapshot.overlay_addresses:
        yield Finding(PROBLEM, "there is no OverlayPool", "create one, or set overlay.enabled to false")
    for pool in pools:
        ready, consistent = find_condition(pool.conditions, READY), find_condition(pool.conditions, CONSISTENT)
        if ready is None or ready.status is None:
            yield Finding(PROBLEM, "no controller has read the pool", "check the leader above", (pool.name,))
        elif not ready.status and ready.reason not in (IPAM_UNAVAILABLE, *CREDENTIALS):
            fix = f"kubectl describe overlaypool {pool.name}; add a pool, or correct this one"
            yield Finding(PROBLEM, f"{ready.reason}: {ready.message}", fix, (pool.name,))
        if consistent is not None and consistent.status is False:
            fix = "give each pool a subnet of its own, or correct the gateway"
            yield Finding(WARNING, f"{consistent.reason}: {consistent.message}", fix, (pool.name,))


def check_addresses(snapshot: Snapshot) -> Iterator[Finding]:
    for node, overlay in snapshot.examined:
        if overlay is None:
            fix = "check the leader above; overlay-net status lists the Nodes that are excluded"
            yield Finding(PROBLEM, "the Node has no NodeOverlayIp", fix, (node.name,))
            continue
        reserved = overlay.assignment.reserved
        if reserved is None or reserved.status is not False or overlay.routes_only:
            continue
        if reserved.reason not in (IPAM_UNAVAILABLE, *CREDENTIALS):
            yield Finding(PROBLEM, f"{reserved.reason}: {reserved.message}", SEE_REASON, (node.name,))


def check_scheduled(snapshot: Snapshot) -> Iterator[Finding]:
    workloads = known(snapshot.workloads)
    if workloads.agent is None:
        what = f"no DaemonSet of agents in namespace {workloads.namespace}"
        yield Finding(PROBLEM, what, fix_missing(workloads.namespace))
        return
    running = {find_node(pod) for pod in find_component(known(snapshot.pods), "agent")}
    fix = (
        f"kubectl describe --namespace {workloads.namespace} daemonset: correct agent.nodeSelector, agent.tolerations, "
        "or the quota or Pod Security level that refuses the pod"
    )
    for node in known(snapshot.nodes):
        if node.name not in running:
            yield Finding(PROBLEM, "no agent is scheduled to the node", fix, (node.name,))


def check_agents(snapshot: Snapshot) -> Iterator[Finding]:
    workloads = known(snapshot.workloads)
    names = {node.name for node in known(snapshot.nodes)}
    for pod in find_component(known(snapshot.pods), "agent"):
        if find_node(pod) in names:
            yield from explain_pod(pod, workloads.namespace)


def _find_agents(snapshot: Snapshot) -> Mapping[str, str]:
    """Return the command that shows the log of the agent, by node, as far as pods could be read."""
    if isinstance(snapshot.pods, Unread) or isinstance(snapshot.workloads, Unread):
        return {}
    log = f"kubectl logs --namespace {snapshot.workloads.value.namespace}"
    return {find_node(pod): f"{log} {find_name(pod)}" for pod in find_component(snapshot.pods.value, "agent")}


def check_reports(snapshot: Snapshot) -> Iterator[Finding]:
    agents = _find_agents(snapshot)
    for node, overlay in snapshot.examined:
        if overlay is None:
            continue
        fix = "check the pod of the agent, and its connection to the API server"
        if node.name in agents:
            fix = f"{fix}: {agents[node.name]}"
        unknown = overlay.assignment.ready
        if unknown is not None and unknown.reason == AGENT_STALE:
            yield Finding(PROBLEM, f"the agent is silent: {unknown.message}", fix, (node.name,))
        elif find_condition(overlay.report.conditions, READY) is None or not overlay.has_own_report:
            yield Finding(PROBLEM, "the agent has not reported about this node", fix, (node.name,))
        elif not overlay.is_current:
            yield Finding(WARNING, "the agent has not observed the latest change", fix, (node.name,))


def _reports(snapshot: Snapshot) -> Iterator[tuple[str, NodeOverlay, Condition]]:
    for node, overlay in snapshot.examined:
        if overlay is not None and overlay.has_own_report:
            yield from ((node.name, overlay, each) for each in overlay.report.conditions)


def check_parents(snapshot: Snapshot) -> Iterator[Finding]:
    for name, _, condition in _reports(snapshot):
        if condition.status is False and condition.reason in PARENTS:
            what = f"{condition.reason}: {condition.message}"
            yield Finding(PROBLEM, what, PARENTS[condition.reason], (name,))


def check_conflicts(snapshot: Snapshot) -> Iterator[Finding]:
    for name, _, condition in _reports(snapshot):
        if condition.reason in CONFLICTS:
            what = f"{condition.reason}: {condition.message}"
            yield Finding(PROBLEM, what, CONFLICTS[condition.reason], (name,))


def check_mac_filter(snapshot: Snapshot) -> Iterator[Finding]:
    """A gateway that answers other nodes of the pool, but not this one, suggests that its frames are filtered."""
    answering: dict[IpAddress, str] = {}
    for each in known(snapshot.overlays):
        reachable = find_condition(each.report.conditions, GATEWAY_REACHABLE)
        if each.assignment.gateway is not None and each.has_own_report and reachable is not None and reachable.status:
            answering.setdefault(each.assignment.gateway, each.name)
    for node, overlay in snapshot.examined:
        gateway = overlay.assignment.gateway if overlay is not None else None
        if overlay is None or gateway is None or gateway not in answering or not _is_silent(overlay, gateway):
            continue
        link = overlay.report.link or "the overlay link"
        what = f"gateway {gateway} answers {answering[gateway]}, but not this node: its frames may be filtered by MAC"
        fix = (
            f"allow the MAC address of {link} at the hypervisor or switch port (forged transmits, MAC spoof checks, "
            "port security), or use link_mode ipvlan or address, which have that of the parent"
        )
        yield Finding(PROBLEM, what, fix, (node.name,))


def _is_silent(overlay: NodeOverlay, gateway: IpAddress) -> bool:
    waiting = find_condition(overlay.report.conditions, READY)
    is_waiting = waiting is not None and waiting.reason == "WaitingForGateway"
    return is_waiting or any(
        each.address == gateway and each.reason == GATEWAY_DOWN for each in overlay.report.silent_gateways
    )


def check_gateways(snapshot: Snapshot) -> Iterator[Finding]:
    for name, _, condition in _reports(snapshot):
        if condition.type == GATEWAY_REACHABLE and condition.status is False:
            fix = "check the gateway, the VLAN of the parent interface, its link and cable"
            yield Finding(PROBLEM, f"{condition.reason}: {condition.message}", fix, (name,))
        elif condition.reason == "WaitingForGateway":
            fix = "check that the gateway of the pool is on the VLAN of the parent interface"
            yield Finding(PROBLEM, condition.message, fix, (name,))


def check_routes(snapshot: Snapshot) -> Iterator[Finding]:
    for route in known(snapshot.static_routes):
        accepted = find_condition(route.conditions, "Accepted")
        if accepted is not None and accepted.status is False:
            fix = "correct the StaticRoute; overlay-net plan -f FILE shows the effect before"
            what = f"{accepted.reason}: {accepted.message}"
            yield Finding(PROBLEM, what, fix, (f"StaticRoute {route.name}",))
    for node, overlay in snapshot.examined:
        if overlay is not None and overlay.has_own_report:
            for failure in overlay.report.failures[:1]:
                what = f"route to {failure.subnet}: {failure.reason}: {failure.message}"
                yield Finding(PROBLEM, what, f"overlay-net routes {node.name}", (node.name,))


def check_reported_reverse_path(snapshot: Snapshot) -> Iterator[Finding]:
    for name, _, condition in _reports(snapshot):
        if condition.reason == "StrictReversePathFilter" and condition.status is False:
            fix = "set agent.settings.private_source_routing to true, or rp_filter of the private interface to 2"
            yield Finding(PROBLEM, condition.message, fix, (name,))


def check_others(snapshot: Snapshot) -> Iterator[Finding]:
    for node, overlay in snapshot.examined:
        for condition in (*overlay.report.conditions, *overlay.assignment.conditions) if overlay is not None else ():
            if condition.type in OTHERS and condition.status is False:
                what = f"{condition.type}: {condition.reason}: {condition.message}"
                yield Finding(WARNING, what, SEE_REASON, (node.name,))
