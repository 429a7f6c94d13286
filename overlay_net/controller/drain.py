"""The last thing a controller does: every node gives back what it has, before the product itself is removed.

The same plans and steps as ever, under the rule that every node leaves. So agents let go before an address is free, and
what is cut off on the way is finished by the next run.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from overlay_net.adapters.kube import KubeApi, connect_controller
from overlay_net.controller.ipam_router import IpamRouter
from overlay_net.controller.run import Leader, leading, serve_nodes
from overlay_net.controller.subnet_map import SubnetMapReconciler
from overlay_net.domain.status.drain_progress import describe_remaining
from overlay_net.model.errors import NotFound, OverlayNetError
from overlay_net.model.names import DEPLOYMENTS, NODE_OVERLAY_IPS
from overlay_net.model.node_actions import LifecyclePolicy
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import find_object, parse_int
from overlay_net.settings import ControllerSettings

log = logging.getLogger(__name__)

EVERY = 0.5
TELL_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """The controllers that must not make anew what is given back."""

    namespace: str
    name: str


async def drain(
    settings: ControllerSettings, deployment: Deployment | None, timeout: float, tell: Callable[[str], None]
) -> str:
    """Give everything back within ``timeout`` seconds; an empty text, or what was waited for at the end.

    ``deployment`` is scaled to nothing first, and back where this does not come to its end. Raises ConfigurationError.
    """
    waiting = Waiting(tell)
    try:
        async with asyncio.timeout(timeout), scaled_down(settings, deployment), leading(settings) as leader:
            await _give_back(leader, waiting)
    except TimeoutError:
        return f"timed out after {timeout:g} s: still waiting for {waiting.state}"
    return ""


class Waiting:
    """What is waited for; told when it changes, though not more often than every ten seconds."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = ""
        self._next = 0.0
        self.state = "the API server, and for the controller that led to give up its lease"

    def see(self, state: str) -> None:
        self.state = state
        now = asyncio.get_running_loop().time()
        if state != self._told and now >= self._next:
            self._tell(f"waiting for {state}")
            self._told, self._next = state, now + TELL_EVERY


@asynccontextmanager
async def scaled_down(settings: ControllerSettings, deployment: Deployment | None) -> AsyncIterator[None]:
    if deployment is None:
        yield
        return
    async with connect_controller(str(settings.kubeconfig) if settings.kubeconfig else None) as connection:
        api = KubeApi(connection)
        before = await _scale(api, deployment, 0)
        try:
            yield
        except BaseException:
            if before:
                # The nodes stay, and somebody must serve them.
                await _scale(api, deployment, before)
            raise


async def _scale(api: KubeApi, deployment: Deployment, replicas: int) -> int:
    """How many it was to have before; 0 where there is none."""
    try:
        found = await api.get(DEPLOYMENTS, deployment.name, namespace=deployment.namespace)
        body = {"spec": {"replicas": replicas}}
        await api.merge_patch(DEPLOYMENTS, deployment.name, body, namespace=deployment.namespace, subresource="scale")
    except NotFound:
        return 0
    log.info("controllers scaled", extra={"deployment": deployment.name, "replicas": replicas})
    return parse_int(find_object(found, "spec").get("replicas"))


async def _give_back(leader: Leader, waiting: Waiting) -> None:
    serving = await serve_nodes(leader, LifecyclePolicy(timedelta(), leader.settings.fence_after, draining=True))
    overlays = leader.caches.overlays
    async with asyncio.TaskGroup() as group:
        tasks = serving.start(group)
        while state := describe_remaining(list(overlays.values())) or await _release_rest(leader, serving.ipam):
            waiting.see(state)
            await asyncio.sleep(EVERY)
        for task in tasks:
            task.cancel()
    await SubnetMapReconciler(leader.api, leader.caches, {}).reconcile("")


async def _release_rest(leader: Leader, ipam: IpamRouter) -> str:
    """Release the records that no object has, quarantined ones too; an empty text, or what is in the way.

    Records are read before objects, as in an audit: one that a node has meanwhile is not taken for a forgotten one.
    """
    try:
        inventory = await ipam.inventory(leader.caches.pools_in_order())
        held = {NodeOverlay.parse(item).name for item in (await leader.api.list(NODE_OVERLAY_IPS)).items}
        for reservation in inventory.reservations:
            if reservation.owner.node not in held:
                await ipam.release(reservation)
    except OverlayNetError as error:
        return f"the IPAM: {error}"
    return "; ".join(str(problem) for problem in inventory.problems)
