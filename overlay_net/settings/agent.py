"""The settings of the agent."""

from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from overlay_net.domain.kernel.checkpoint import MARGIN
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import interface_selector
from overlay_net.model.kernel import LinkMode, MacvlanMode, OwnershipMark
from overlay_net.model.names import LINK_ALIAS
from overlay_net.model.policy_rule import PrivateTable, SourceTable
from overlay_net.settings.agent_config import AgentConfig
from overlay_net.settings.base import ModeSettings
from overlay_net.settings.sections import AgentHttp
from overlay_net.settings.values import Duration, Interval, LinkName, Network, OptionalAddress, OptionalDirectory


class AgentSettings(ModeSettings):
    http: AgentHttp = AgentHttp()
    node_name: str = Field(min_length=1, max_length=253, description="name of the Node that this agent runs on")
    node_ip: OptionalAddress = Field(default=None, description="InternalIP of the node; required for interface node-ip")
    interface: str = Field(
        default="eth0",
        description="private interface of the node, parent of the overlay link: a name, or names and patterns in order "
        "of preference (eth1,bond*,en*), which alternative names match as well; or route:ADDRESS for the interface of "
        "the route to ADDRESS; or node-ip for the interface that has the address node_ip",
    )
    link: LinkName = Field(default="tmp0", description="name of the overlay link")
    link_mode: LinkMode = Field(
        default="macvlan",
        description="macvlan or ipvlan: a separate link; address: the address is set on the private interface itself; "
        "none: routes only",
    )
    macvlan_mode: MacvlanMode = Field(
        default="bridge", description="mode of the macvlan link: bridge, private or vepa (ip-link(8))"
    )
    fallback_subnet: Network = Field(
        default=IPv4Network("10.0.0.0/8"),
        description="with link_mode none, routes without a gateway use the gateway of the node's route to this subnet",
    )
    duplicate_detection: bool = Field(
        default=True,
        description="probe the link for address conflicts before an address is used; false if a router answers for "
        "every address of the overlay subnet (proxy ARP)",
    )
    announce_interval: Duration = Field(
        default=timedelta(),
        description="how often to announce the address, in addition to announcements on changes; 0: never",
    )
    # 0-18, 42, 99 and 186-192 are assigned in the rt_protos of iproute2; the default is unassigned.
    route_protocol: int = Field(
        default=117,
        ge=5,
        le=255,
        description="protocol number of the routes and addresses that the agent manages",
    )
    source_routing: bool = Field(
        default=False, description="whether to route traffic from the overlay address through the overlay gateway"
    )
    source_table: int = Field(
        default=117, ge=1, le=2**32 - 1, description="dedicated routing table of source_routing; not 253 to 255"
    )
    source_priority: int = Field(
        default=11700,
        ge=1,
        le=32764,
        description="priority of the first policy rule of source_routing; the second one has the next number",
    )
    source_main_prefix: int = Field(
        default=8,
        ge=0,
        le=128,
        description="with source_routing, routes of the main table take precedence if their prefix is longer than this",
    )
    private_source_routing: bool = Field(
        default=False,
        description="whether to route traffic from the private addresses of the node through its private gateway, "
        "also to subnets of StaticRoutes",
    )
    private_source_table: int = Field(
        default=118,
        ge=1,
        le=2**32 - 1,
        description="dedicated routing table of private_source_routing; not source_table, and not 253 to 255",
    )
    resync_interval: Interval = Field(
        default=timedelta(seconds=60),
        description="how often to compare the whole kernel state, in addition to reacting to changes",
    )
    proc_sys_net: Path = Field(
        default=Path("/proc/sys/net"), description="mount point of the node's writable net sysctls"
    )
    boot_id_file: Path = Field(
        default=Path("/proc/sys/kernel/random/boot_id"),
        description="file of the node with the boot id that its kubelet reports; a node that is an LXC container has "
        "another one than the kernel, which containers of the node do not see",
    )
    state_dir: OptionalDirectory = Field(
        default=Path("/var/lib/overlay-net"),
        description="directory on the node for the checkpoint, which is used if the API server is unreachable when the "
        "agent starts; empty: disabled",
    )
    fence_after: Duration = Field(
        default=timedelta(minutes=10),
        description="fence_after of the controller: after this time the address may belong to another node",
    )
    resurrect_for: Duration | None = Field(
        default=None,
        description="how long a checkpoint is valid after the API server last confirmed it; less than fence_after, by "
        "default 90% of it",
    )

    lease_namespace: str = Field(
        default="",
        max_length=63,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        description="namespace of the Lease that the agent renews every minute, so that the controller notices when it "
        "is silent; set by the chart; empty: none",
    )

    @field_validator("source_table", "private_source_table")
    @classmethod
    def _is_dedicated_table(cls, value: int) -> int:
        if value in (253, 254, 255):
            raise ValueError("must be a dedicated table: 253 to 255 are default, main and local of the kernel")
        return value

    @field_validator("private_source_table")
    @classmethod
    def _is_a_table_of_its_own(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("private_source_routing") and value == info.data.get("source_table"):
            raise ValueError(f"must not be {value}, the source_table")
        return value

    @field_validator("interface")
    @classmethod
    def _is_interface_selector(cls, value: str, info: ValidationInfo) -> str:
        if "node_ip" in info.data:
            # Absent if node_ip itself is invalid, which is reported separately.
            interface_selector(value, info.data["node_ip"])
        return value

    @field_validator("resurrect_for")
    @classmethod
    def _is_below_fence_after(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        fence = info.data.get("fence_after")
        if value is not None and fence is not None and value >= fence:
            raise ValueError(
                f"must be less than fence_after ({fence.total_seconds():g}s), when another node may get the address"
            )
        return value

    @property
    def config(self) -> AgentConfig:
        return AgentConfig(
            node_name=self.node_name,
            mark=OwnershipMark(self.route_protocol, LINK_ALIAS),
            link=self.link_config,
            kubeconfig=self.kubeconfig,
            bind=self.http.bind,
            log_level=self.log.level,
            log_format=self.log.format,
            duplicate_detection=self.duplicate_detection,
            announce_interval=self.announce_interval,
            resync_interval=self.resync_interval,
            proc_sys_net=self.proc_sys_net,
            boot_id_file=self.boot_id_file,
            state_dir=self.state_dir,
            checkpoint_max_age=self.checkpoint_max_age,
            lease_namespace=self.lease_namespace,
        )

    @property
    def link_config(self) -> LinkConfig:
        return LinkConfig(
            parent=interface_selector(self.interface, self.node_ip),
            name=self.link,
            mode=self.link_mode,
            macvlan_mode=self.macvlan_mode,
            fallback=self.fallback_subnet,
            source=self.source,
            private=self.private_source,
            node_ip=self.node_ip,
        )

    @property
    def source(self) -> SourceTable | None:
        if not self.source_routing:
            return None
        return SourceTable(self.source_table, self.source_priority, self.source_main_prefix)

    @property
    def private_source(self) -> PrivateTable | None:
        return PrivateTable(self.private_source_table, self.source_priority) if self.private_source_routing else None

    @property
    def checkpoint_max_age(self) -> timedelta:
        """How long a checkpoint is valid after its last confirmation."""
        return self.fence_after * (1 - MARGIN) if self.resurrect_for is None else self.resurrect_for
