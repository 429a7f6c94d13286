"""The settings of the controller."""

from datetime import timedelta

from pydantic import Field, model_validator

from overlay_net.model.names import DEFAULT_NODE_SELECTOR
from overlay_net.settings.base import ModeSettings
from overlay_net.settings.sections import ControllerHttp, LeaderElectionSettings, PhpIpamSettings
from overlay_net.settings.values import Duration, Interval, LabelSelector, Subnet, TaintKey


class ControllerSettings(ModeSettings):
    http: ControllerHttp = ControllerHttp()
    cluster_id: str = Field(
        default="",
        max_length=63,
        description="id of this cluster in IPAM records; default: the UID of the namespace kube-system",
    )
    release_after: Duration = Field(
        default=timedelta(minutes=10), description="how long a deleted node keeps its address"
    )
    fence_after: Duration = Field(
        default=timedelta(minutes=10), description="how long to wait for an unresponsive agent of a deleted node"
    )
    agent_stale_after: Duration = Field(
        default=timedelta(minutes=5),
        description="how long after the last renewal of its Lease an agent counts as silent and its node is "
        "Ready=Unknown; 0: never",
    )
    agent_lease_namespace: str = Field(
        default="",
        max_length=63,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        description="lease_namespace of the agents; default: POD_NAMESPACE, as set by the chart",
    )
    overlay_addresses: bool = Field(default=True, description="whether nodes get overlay addresses; false: routes only")
    startup_taint: TaintKey = Field(
        default="",
        description="key of a taint that is removed from a node once its address and routes are in place; empty: none",
    )
    node_selector: LabelSelector = Field(
        default=DEFAULT_NODE_SELECTOR,
        description="label selector, as in kubectl, of the Nodes on which an agent runs; only they get addresses and "
        "routes. The chart sets it from agent.nodeSelector and agent.excludeNodes",
    )
    leader_election: LeaderElectionSettings = LeaderElectionSettings()
    workers: int = Field(default=16, ge=1, le=256, description="number of nodes that are reconciled concurrently")
    status_batch: Interval = Field(
        timedelta(seconds=1),
        description="maximum delay of the status of OverlayPools, and of a StaticRoute that begins or ceases to fail; "
        "other StaticRoutes wait longer if status writes would take more than a tenth of the time, and count nodes "
        "that join once no more of them have followed for this time, at most 30s",
    )
    node_status_limit: int = Field(
        default=250,
        ge=1,
        le=1000,
        description="maximum number of nodes in status.nodeStatus of a StaticRoute, failing ones first; the counts "
        "cover all nodes",
    )
    audit_interval: Interval = Field(
        default=timedelta(minutes=5), description="how often the IPAM is compared with the cluster"
    )
    phpipam: PhpIpamSettings | None = None
    protected_subnets: list[Subnet] = Field(
        default=[],
        description="subnets that no StaticRoute may overlap, in addition to those that the cluster uses",
    )
    service_subnets: list[Subnet] = Field(
        default=[],
        description="subnets of services; default: those of ServiceCIDRs, or of kubeadm's ConfigMap before "
        "Kubernetes 1.33",
    )
    pod_subnets: list[Subnet] = Field(
        default=[], description="subnets of pods, besides those of Nodes; default: those that Calico and Cilium publish"
    )
    allow_default_route: bool = Field(default=False, description="whether StaticRoutes may be default routes")
    allow_link_local_routes: bool = Field(
        default=False, description="whether StaticRoutes may overlap 169.254.0.0/16 and fe80::/10"
    )
    audit_grace: Duration = Field(
        default=timedelta(minutes=10), description="how long a reservation without a node is kept before it is released"
    )

    resync_interval: Interval = Field(
        default=timedelta(hours=10),
        description="how often to list and reconcile everything again, in case a change was missed",
    )

    @model_validator(mode="after")
    def _no_pools_without_addresses(self) -> "ControllerSettings":
        if not self.overlay_addresses and self.phpipam is not None and self.phpipam.subnet_map:
            raise ValueError("overlay_addresses is false, so phpipam.subnet_map has no effect: remove one of them")
        return self
