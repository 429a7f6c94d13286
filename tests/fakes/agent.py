"""An agent for tests of its reconciler alone: no neighbours, no gateways, no checkpoint, no API server."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta

from overlay_net.adapters.checkpoint_file import current_moment
from overlay_net.agent.address_guard import AddressGuard
from overlay_net.agent.apply import NodeKernel
from overlay_net.agent.checkpoint import NodeCheckpoint
from overlay_net.agent.checkpoint_writer import NoCheckpointWriter
from overlay_net.agent.gateway_prober import GatewayDown
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.agent.heartbeat import Heartbeat
from overlay_net.agent.reconciler import NodeAgent, Shadows, Translations
from overlay_net.agent.repairs import Repairs
from overlay_net.agent.route_follower import FollowRoutes, follow_none
from overlay_net.agent.route_probes import RouteProbes
from overlay_net.agent.route_sets import RouteResolver, Slices
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.gateway_health import Target
from overlay_net.domain.kernel.own_frames import MacConflict, OwnFrames
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import KernelPlan, Problem
from overlay_net.model.net import IpAddress
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.ops.agent_metrics import AgentMetrics
from overlay_net.runtime.store import Store
from tests.fakes.messages import check_conditions
from tests.fakes.route_slices import FakeSlices


class NoNeighbours:
    """A link without another host: every address is free."""

    conflicts = ()
    mac_conflict: MacConflict | None = None

    def recognise(self, own: OwnFrames) -> None:
        return

    async def find_conflict(self, link: str, address: IpAddress) -> None:
        return

    def announce(self, link: str, address: IpAddress) -> None:
        return

    def watch(self, configured: Mapping[str, Iterable[IpAddress]], router: IpAddress | None) -> None:
        return

    def take_gateway_change(self) -> bool:
        return False


class NoProber:
    """Sends nothing: every gateway counts as up."""

    down: frozenset[IpAddress] = frozenset()
    known = True
    reports: tuple[GatewayDown, ...] = ()

    def assume_down(self, gateways: Iterable[IpAddress]) -> None:
        return

    def watch(self, targets: Iterable[Target]) -> None:
        return

    def has_answer(self, link: str) -> bool:
        return True


class NoShadows:
    """Asks nothing: the kernel uses every route."""

    known = True
    shadowed: tuple[Problem, ...] = ()

    def reconciling(self) -> None:
        return

    def follow(self, plan: KernelPlan, observed: Observed) -> None:
        return


class NoTranslations:
    """A node without connection tracking."""

    def follow(self, desired: Desired, observed: Observed, *, changed: bool) -> None:
        return


class RecordedReports:
    """Appends the reports that would be written to ``reports``; each is on the object with its next version."""

    idle = True

    def __init__(self, reports: list[Report]) -> None:
        self._reports = reports

    def latest(self, overlay: NodeOverlay) -> Report:
        return overlay.report

    def submit(self, overlay: NodeOverlay, report: Report) -> None:
        if report != overlay.report:
            check_conditions({"status": report.to_json()})
            self._reports.append(report)


def make_agent(
    kernel: NodeKernel,
    store: Store[NodeOverlay],
    reports: list[Report],
    config: LinkConfig,
    mark: OwnershipMark,
    *,
    guard: AddressGuard | None = None,
    gateways: GatewayWatch | None = None,
    shadows: Shadows | None = None,
    translations: Translations | None = None,
    checkpoint: NodeCheckpoint | None = None,
    slices: Slices | None = None,
    heartbeat: Heartbeat | None = None,
    boot_id: str = "boot-1",
    follow_routes: FollowRoutes = follow_none,
    metrics: AgentMetrics | None = None,
) -> NodeAgent:
    """An agent that appends its reports to ``reports`` and resyncs every 60 s. Needs a running event loop."""
    clock = asyncio.get_running_loop().time
    checkpoint = checkpoint or NodeCheckpoint(NoCheckpointWriter(), "n1", timedelta(), current_moment)
    return NodeAgent(
        kernel,
        store,
        RecordedReports(reports),
        config,
        mark,
        metrics or AgentMetrics(),
        lambda: 60.0,
        guard=guard or AddressGuard(NoNeighbours(), mark, clock),
        gateways=gateways or GatewayWatch(NoProber()),
        shadows=shadows or NoShadows(),
        translations=translations or NoTranslations(),
        route_probes=RouteProbes(lambda: None, lambda: None),
        checkpoint=checkpoint,
        route_sets=RouteResolver(slices or FakeSlices(), checkpoint.last_applied),
        repairs=Repairs(lambda seconds: None, clock),
        follow_routes=follow_routes,
        boot_id=boot_id,
        heartbeat=heartbeat or Heartbeat(None, "", "n1", lambda: None, 60.0, clock, lambda: None),  # type: ignore[arg-type]
    )
