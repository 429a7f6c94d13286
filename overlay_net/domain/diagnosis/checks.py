"""The checks of `overlay-net doctor`, in the order of the chain: what comes first breaks what follows."""

from collections.abc import Sequence
from typing import Final

from overlay_net.domain.diagnosis import control_plane, kernels, masquerade, reports
from overlay_net.domain.diagnosis.finding import PROBLEM, Check, Result, run_check
from overlay_net.domain.diagnosis.snapshot import Snapshot

CHECKS: Final = (
    Check("api-server", "Controllers, agents and this command all work through it.", control_plane.check_api),
    Check(
        "definitions",
        "The API server refuses or drops fields that a definition lacks, so nodes keep what they have.",
        control_plane.check_definitions,
    ),
    Check(
        "permissions",
        "Without them a process cannot read what is desired, or report what is there.",
        control_plane.check_permissions,
    ),
    Check(
        "admission-policy",
        "Without it, one compromised node can change the addresses of all others.",
        control_plane.check_admission,
    ),
    Check(
        "controllers",
        "Without a controller no node gets an address or a change of routes.",
        control_plane.check_controllers,
    ),
    Check(
        "leader",
        "Only the leader of the release that manages the cluster changes anything.",
        control_plane.check_leader,
    ),
    Check(
        "versions",
        "Agents of another version may not read what the controller writes.",
        control_plane.check_versions,
    ),
    Check(
        "ipam-reachable",
        "New nodes get no address, and addresses of deleted nodes are not released.",
        reports.check_ipam,
    ),
    Check(
        "ipam-credentials",
        "New nodes get no address, and addresses of deleted nodes are not released.",
        reports.check_credentials,
    ),
    Check("pools", "Nodes get their addresses and their overlay gateway from them.", reports.check_pools),
    Check("addresses", "A node without an overlay address has no routes over the overlay.", reports.check_addresses),
    Check("agent-scheduled", "Without an agent nothing on the node is set or repaired.", reports.check_scheduled),
    Check(
        "agent-ready",
        "The kernel keeps its state, but follows no change and is not repaired.",
        reports.check_agents,
    ),
    Check(
        "agent-reports",
        "What the node has is not known, and its address is not reassigned safely.",
        reports.check_reports,
    ),
    Check("parent-interface", "The overlay link lies on it.", reports.check_parents),
    Check("address-conflict", "Two hosts with one address or MAC take each other's traffic.", reports.check_conflicts),
    Check(
        "mac-filter",
        "Frames of the overlay link are dropped before they reach the gateway.",
        reports.check_mac_filter,
    ),
    Check(
        "neighbours",
        "Frames of the overlay link are dropped before they reach the gateway.",
        kernels.check_neighbours,
        of_kernel=True,
    ),
    Check("gateways", "Routes through a gateway that is down carry no traffic.", reports.check_gateways),
    Check("routes", "Subnets of these routes are not reached through the overlay.", reports.check_routes),
    Check(
        "masquerade",
        "Hosts see another source than the overlay address, and answers go astray.",
        masquerade.check_masquerade,
        of_kernel=True,
    ),
    Check("reverse-path", "The kernel drops packets whose way back is over another link.", kernels.check_reverse_path),
    Check("mtu", "Larger packets are dropped or fragmented, so connections hang.", kernels.check_mtu, of_kernel=True),
    Check("other-conditions", "Each is a promise that does not hold now.", reports.check_others),
)


def diagnose(snapshot: Snapshot) -> Sequence[Result]:
    """Run the checks; those of kernels only if one was read. Without an API server, others would only repeat that."""
    results: list[Result] = []
    for check in CHECKS:
        if check.of_kernel and not snapshot.kernels:
            continue
        results.append(run_check(check, snapshot))
        if check is CHECKS[0] and results[0].verdict == PROBLEM:
            break
    return results


def first_broken(results: Sequence[Result]) -> Result | None:
    """Return the first link of the chain that is broken."""
    return next((each for each in results if each.verdict == PROBLEM), None)
