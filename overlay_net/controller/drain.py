"""Drains the cluster before an uninstall: every node releases its address and removes its routes.

It runs the reconcilers of the controller with a policy that removes every node's object. Agents therefore remove an
address before it is released, and the next run completes an interrupted drain.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from overlay_net.adapters.kube import KubeApi, connect_controller
from overlay_net.controller.caches import Caches
from overlay_net.controller.ipam_router import IpamRouter
from overlay_net.controller.leader import Leader, become_leader
from overlay_net.controller.leader_election import release_identity
from overlay_net.controller.node_workers import NodeWorkers, make_node_workers
from overlay_net.controller.slice_steps import delete_all_slices
from overlay_net.controller.subnet_map import SubnetMapReconciler
from overlay_net.domain.allocation.removal_plan import may_be_in_use
from overlay_net.domain.status.drain_progress import NAMED, describe_remaining
from overlay_net.model.errors import NotFound, OverlayNetError, Unavailable
from overlay_net.model.names import (
    DEPLOYMENTS,
    NODE_OVERLAY_IPS,
    OVERLAY_ADDRESSES,
    OVERLAY_POOLS,
    OVERLAY_ROUTE_SLICES,
)
from overlay_net.model.node_actions import LifecyclePolicy
from overlay_net.model.parse import find_object, parse_int
from overlay_net.model.wording import name_some
from overlay_net.runtime.cluster_lock import find_other_release
from overlay_net.settings.controller import ControllerSettings

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.5
REPORT_INTERVAL = 10.0

ANSWER_TIME = 10.0
"""Seconds for an agent that is still running to remove the address after its object was deleted."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The Deployment of the controllers, which must not reserve the released addresses again."""

    namespace: str
    name: str
    replicas: int = 0
    """Replicas to restore if the drain does not complete; 0: as many as there are when it starts.

    A drain that was killed has left none, so the next one cannot find out.
    """


async def drain(
    settings: ControllerSettings, deployment: Deployment | None, timeout: float, report: Callable[[str], None]
) -> str:
    """Drain within ``timeout`` seconds. Returns what the drain was still waiting for, or an empty string.

    ``deployment`` is scaled to zero first, and scaled back if the drain does not complete. Raises ConfigurationError.
    """
    progress = Progress(report)
    try:
        async with (
            asyncio.timeout(timeout) as deadline,
            connect_controller(settings.kubeconfig) as connection,
            scaled_down(api := KubeApi(connection), deployment) as is_deployed,
        ):
            if not is_deployed and await _is_empty(api):
                report("no controller is deployed, and there is nothing to release")
                return ""
            if other := await find_other_release(api, release_identity(settings.leader_election)):
                report(f"release {other} manages this cluster; this release has nothing to release")
                return ""
            problem = "interrupted"
            async with become_leader(settings, lambda: not problem) as leader:
                problem = await _drain_nodes(leader, progress, deadline.when() or 0.0)
            if problem:
                raise DrainFailed(problem)
    except DrainFailed as reason:
        return str(reason)
    except TimeoutError:
        return f"timed out after {timeout:g} s: still waiting for {progress.waiting_for}"
    return ""


class DrainFailed(Exception):
    """The drain cannot complete; the message has the reason."""


class Progress:
    """Tracks what the drain is waiting for, and reports changes at most every ten seconds."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._reported = ""
        self._next = 0.0
        self.waiting_for = "the API server, and for the leader to release its lease"

    def update(self, waiting_for: str) -> None:
        self.waiting_for = waiting_for
        now = asyncio.get_running_loop().time()
        if waiting_for != self._reported and now >= self._next:
            self._report(f"waiting for {waiting_for}")
            self._reported, self._next = waiting_for, now + REPORT_INTERVAL


@asynccontextmanager
async def scaled_down(api: KubeApi, deployment: Deployment | None) -> AsyncIterator[bool]:
    """Scale the Deployment to zero. The value of the context is whether there may be controllers."""
    if deployment is None:
        yield True
        return
    count = await _count_replicas(api, deployment)
    before = deployment.replicas or count
    await _scale(api, deployment, 0)
    try:
        yield count is not None
    except BaseException:
        if before:
            # The nodes still have overlay addresses and need a controller.
            await _scale(api, deployment, before)
        raise


async def _is_empty(api: KubeApi) -> bool:
    """Return whether there is nothing to release, as after a failed first install: nothing else is needed then.

    The settings may name a phpIPAM whose secret does not exist, and the CRDs may be missing.
    """
    for resource in (NODE_OVERLAY_IPS, OVERLAY_ADDRESSES, OVERLAY_POOLS, OVERLAY_ROUTE_SLICES):
        try:
            if await api.names(resource):
                return False
        except NotFound:
            # Its CRD does not exist.
            continue
    return True


async def _count_replicas(api: KubeApi, deployment: Deployment) -> int | None:
    """Return the replicas of the Deployment, or None if it does not exist."""
    try:
        found = await api.get(DEPLOYMENTS, deployment.name, namespace=deployment.namespace)
    except NotFound:
        return None
    return parse_int(find_object(found, "spec").get("replicas"))


async def _scale(api: KubeApi, deployment: Deployment, replicas: int) -> None:
    """Scale the Deployment, if it exists."""
    body = {"spec": {"replicas": replicas}}
    try:
        await api.merge_patch(DEPLOYMENTS, deployment.name, body, namespace=deployment.namespace, subresource="scale")
    except NotFound:
        return
    log.info("controllers scaled", extra={"deployment": deployment.name, "replicas": replicas})


async def _drain_nodes(leader: Leader, progress: Progress, deadline: float) -> str:
    """Drain until ``deadline``, a time of the event loop. Returns why that is impossible, or an empty string."""
    nodes = await make_node_workers(leader, LifecyclePolicy(timedelta(), leader.settings.fence_after, draining=True))
    overlays = leader.caches.overlays
    # A drain adds no routes, so it does not read what is protected.
    leader.caches.protected.set_unknown("")
    if problem := await _start_fencing(nodes, deadline):
        return problem
    async with asyncio.TaskGroup() as group:
        tasks = nodes.start(group)
        while remaining := (
            describe_remaining(list(overlays.values()))
            or await _release_orphans(leader, nodes.ipam)
            or await _delete_mapped_pools(leader)
            or await _delete_slices(leader)
        ):
            progress.update(remaining)
            await asyncio.sleep(POLL_INTERVAL)
        for task in tasks:
            task.cancel()
    return ""


async def _start_fencing(nodes: NodeWorkers, deadline: float) -> str:
    """Delete the objects of deleted Nodes first, unless there is time to wait until their nodes count as fenced.

    Returns why the drain cannot complete, or an empty string. The other nodes keep their addresses: the controllers
    continue, and complete the deletions.
    """
    leader, loop = nodes.leader, asyncio.get_running_loop()
    fence = leader.settings.fence_after.total_seconds()
    if loop.time() + fence <= deadline:
        return ""
    answered_by = loop.time() + ANSWER_TIME
    while (gone := _unfenced(leader.caches)) and loop.time() < answered_by:
        for name in gone:
            with contextlib.suppress(Unavailable):
                await nodes.node.reconcile(name)
        await asyncio.sleep(POLL_INTERVAL)
    if not gone:
        return ""
    return (
        f"no Node with an agent for {name_some(gone, NAMED)}: the release of their addresses has begun, but takes "
        f"fence_after ({fence:g} s); nothing else was changed; uninstall again after that time, or set "
        "uninstall.timeout, and the --timeout of helm, to more than that"
    )


def _unfenced(caches: Caches) -> list[str]:
    """Return the NodeOverlayIps without a Node whose address may still be in use."""
    nodes = {node.name for node in caches.agent_nodes()}
    return sorted(each.name for each in caches.overlays.values() if each.name not in nodes and may_be_in_use(each))


async def _release_orphans(leader: Leader, ipam: IpamRouter) -> str:
    """Release the records without an object, including quarantined ones. Returns an error, or an empty string.

    Records are read before objects, as in an audit, so the record of a node that has just joined is not an orphan.
    """
    try:
        inventory = await ipam.inventory(leader.caches.pools_in_order())
        nodes = await leader.api.names(NODE_OVERLAY_IPS)
        for reservation in inventory.reservations:
            if reservation.owner.node not in nodes:
                await ipam.release(reservation)
    except OverlayNetError as error:
        return f"the IPAM: {error}"
    return "; ".join(inventory.problems)


async def _delete_mapped_pools(leader: Leader) -> str:
    """Delete the pools of the present or an earlier phpIPAM.subnetMap. Returns an error, or an empty string."""
    try:
        await SubnetMapReconciler(leader.api, leader.caches, {}).reconcile("")
    except OverlayNetError as error:
        return f"the OverlayPools of phpIPAM.subnetMap: {error}"
    return ""


async def _delete_slices(leader: Leader) -> str:
    """Delete the slices that no agent needs any more. Returns an error, or an empty string."""
    try:
        await delete_all_slices(leader.api)
    except OverlayNetError as error:
        return f"the OverlayRouteSlices: {error}"
    return ""
