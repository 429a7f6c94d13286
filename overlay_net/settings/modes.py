"""What can be set: ControllerSettings and AgentSettings."""

from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from overlay_net.domain.kernel.checkpoint import MARGIN
from overlay_net.domain.kernel.parent_interface import InterfaceSelector, interface_selector
from overlay_net.model.kernel import LinkMode, MacvlanMode
from overlay_net.model.policy_rule import SourceTable
from overlay_net.settings.sections import (
    AgentHttp,
    ControllerHttp,
    LeaderElectionSettings,
    LogSettings,
    PhpIpamSettings,
)
from overlay_net.settings.values import (
    Duration,
    Interval,
    LinkName,
    Network,
    OptionalAddress,
    OptionalDirectory,
    Subnet,
    TaintKey,
)

ENV_PREFIX = "OVERLAY_"


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    log: LogSettings = LogSettings()
    kubeconfig: Path | None = Field(
        default=None, description="kubeconfig file; without it the pod's service account is used"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The file's content comes in as init values, yet the environment must win over it.
        return env_settings, init_settings


class ControllerSettings(_Settings):
    http: ControllerHttp = ControllerHttp()
    cluster_id: str = Field(
        default="", max_length=63, description="mark of this cluster in the IPAM; default: kube-system's uid"
    )
    release_after: Duration = Field(
        default=timedelta(minutes=10), description="how long a node that is gone keeps its address"
    )
    fence_after: Duration = Field(
        default=timedelta(minutes=10), description="how long the silent agent of a node that is gone is waited for"
    )
    overlay_addresses: bool = Field(
        default=True, description="whether nodes get overlay addresses; false: they have routes only"
    )
    startup_taint: TaintKey = Field(
        default="", description="taint that is taken off a node once its address and routes are in place; empty: none"
    )
    leader_election: LeaderElectionSettings = LeaderElectionSettings()
    workers: int = Field(default=16, ge=1, le=256, description="nodes that are reconciled at the same time")
    status_batch: Interval = Field(
        timedelta(seconds=1),
        description="how long reports are gathered before the status of routes and pools is written",
    )
    audit_interval: Interval = Field(
        default=timedelta(minutes=5), description="how often the IPAM is compared with the cluster"
    )
    phpipam: PhpIpamSettings | None = None
    protected_subnets: list[Subnet] = Field(
        default=[], description="no StaticRoute may touch these, nor nodes, pods, services, API servers, phpIPAM"
    )
    allow_default_route: bool = Field(default=False, description="whether a StaticRoute may be a default route")
    audit_grace: Duration = Field(
        default=timedelta(minutes=10), description="how long a reservation without owner is kept before it is released"
    )

    @model_validator(mode="after")
    def _no_pools_without_addresses(self) -> "ControllerSettings":
        if not self.overlay_addresses and self.phpipam is not None and self.phpipam.subnet_map:
            raise ValueError("overlay_addresses is false, so no address is taken from phpipam.subnet_map: remove one")
        return self


class AgentSettings(_Settings):
    http: AgentHttp = AgentHttp()
    node_name: str = Field(min_length=1, max_length=253, description="name of the Node this agent runs on")
    node_ip: OptionalAddress = Field(default=None, description="the node's InternalIP, for interface: node-ip")
    interface: str = Field(
        default="eth0",
        description="the node's private interface, below the overlay link: a name, or names and patterns of which the "
        "first that fits is taken (eth1,bond*,en*), or route:ADDRESS for the interface of the route to an address, or "
        "node-ip for the one that has the address node_ip",
    )
    link: LinkName = Field(default="tmp0", description="name of the overlay link")
    link_mode: LinkMode = Field(
        default="macvlan",
        description="macvlan or ipvlan: a link of its own; address: on the interface itself; none: routes only",
    )
    macvlan_mode: MacvlanMode = Field(default="bridge", description="bridge, private or vepa (ip-link(8))")
    fallback_subnet: Network = Field(
        default=IPv4Network("10.0.0.0/8"),
        description="with link_mode none, routes without a gateway take the one that the node uses for this subnet",
    )
    duplicate_detection: bool = Field(
        default=True,
        description="ask on the link whether an address is free before it is used; false where a router answers for "
        "every address of the overlay subnet (proxy ARP)",
    )
    announce_interval: Duration = Field(
        default=timedelta(), description="how often the address is announced besides on changes; 0: not"
    )
    # The kernel and its tools name 0-18, 42, 99 and 186-192 (rt_protos); the default is in nobody's list.
    route_protocol: int = Field(
        default=117, ge=5, le=255, description="protocol number that marks our routes and addresses"
    )
    source_routing: bool = Field(
        default=False, description="whether traffic from the overlay address leaves through the overlay gateway"
    )
    source_table: int = Field(
        default=117, ge=1, le=2**32 - 1, description="routing table of source_routing, of its own; not 253 to 255"
    )
    source_priority: int = Field(
        default=11700,
        ge=1,
        le=32764,
        description="priority of the first of the two rules of source_routing; the other one has the next number",
    )
    source_main_prefix: int = Field(
        default=8,
        ge=0,
        le=128,
        description="with source_routing, only routes of the main table with a longer prefix than this count for "
        "traffic from the overlay address",
    )
    resync_interval: Interval = Field(
        default=timedelta(seconds=60), description="how often the kernel is compared in full, besides on every change"
    )
    proc_sys_net: Path = Field(
        default=Path("/proc/sys/net"), description="where the node's writable net sysctls are mounted"
    )
    state_dir: OptionalDirectory = Field(
        default=Path("/var/lib/overlay-net"),
        description="directory of the node for the last desired state, which is used while the API server cannot be "
        "reached after a start; empty: off",
    )
    fence_after: Duration = Field(
        default=timedelta(minutes=10),
        description="the controller's fence_after: after that time the address may be somebody else's",
    )
    resurrect_for: Duration | None = Field(
        default=None,
        description="how old the last confirmation by the API may be for the last state to be brought back; less than "
        "fence_after, and by default nine tenths of it",
    )

    @field_validator("source_table")
    @classmethod
    def _table_of_its_own(cls, value: int) -> int:
        if value in (253, 254, 255):
            raise ValueError("a table of its own: 253 to 255 are the kernel's default, main and local")
        return value

    @field_validator("interface")
    @classmethod
    def _known_interface(cls, value: str, info: ValidationInfo) -> str:
        if "node_ip" in info.data:
            # Without it something is wrong there, which is said in its own place.
            interface_selector(value, info.data["node_ip"])
        return value

    @field_validator("resurrect_for")
    @classmethod
    def _before_the_fence(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        fence = info.data.get("fence_after")
        if value is not None and fence is not None and value >= fence:
            raise ValueError(f"less than fence_after ({fence.total_seconds():g}s), when others may get the address")
        return value

    @property
    def interface_selector(self) -> InterfaceSelector:
        return interface_selector(self.interface, self.node_ip)

    @property
    def source(self) -> SourceTable | None:
        if not self.source_routing:
            return None
        return SourceTable(self.source_table, self.source_priority, self.source_main_prefix)

    @property
    def checkpoint_max_age(self) -> timedelta:
        """How old a confirmation of the last state may be."""
        return self.fence_after * (1 - MARGIN) if self.resurrect_for is None else self.resurrect_for
