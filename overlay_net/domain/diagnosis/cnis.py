"""What to set in each CNI so that it masquerades traffic to a subnet, or does not: the advice of docs/cni.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from overlay_net.domain.diagnosis.nat_rules import NatRule


@dataclass(frozen=True, slots=True)
class Cni:
    """Advice for one subnet, which replaces ``SUBNET``; ``LINK`` is the overlay link."""

    name: str
    """Empty: not known."""
    keep: str
    """How pods keep their own addresses."""
    masquerade: str = "remove this rule, or narrow it, so that it does not match SUBNET"
    """How they get the overlay address again."""
    snat: str = "before this rule, insert: iptables -t nat -I POSTROUTING -o LINK -j MASQUERADE"
    """How they get the overlay address instead of another one."""


CALICO: Final = Cni(
    "Calico",
    keep="create an IPPool with cidr: SUBNET, disabled: true and disableBGPExport: true",
    masquerade="delete the disabled IPPool that contains SUBNET, and let iptablesNATOutgoingInterfaceFilter match LINK",
    snat="remove natOutgoingAddress from the FelixConfiguration",
)
FLANNEL: Final = Cni(
    "flannel",
    keep="insert a rule before that of flannel: iptables -t nat -I POSTROUTING -d SUBNET -j RETURN",
)
# A verdict ends only the chains of its own table.
FLANNEL_NFTABLES: Final = Cni(
    "flannel",
    keep="set EnableNFTables to false, because no rule precedes its table, and insert a rule before that of flannel: "
    "iptables -t nat -I POSTROUTING -d SUBNET -j RETURN",
)
CILIUM: Final = Cni(
    "Cilium",
    keep="let ipv4-native-routing-cidr contain SUBNET, or set egress-masquerade-interfaces to other links than LINK",
    masquerade="narrow ipv4-native-routing-cidr, so that it does not contain SUBNET, and let "
    "egress-masquerade-interfaces match LINK",
)
OVN: Final = Cni(
    "OVN-Kubernetes",
    keep="annotate the Node with k8s.ovn.org/node-snat-exclude-subnets='[\"SUBNET\"]'",
    masquerade="remove SUBNET from the annotation k8s.ovn.org/node-snat-exclude-subnets of the Node",
    snat="remove the pods from the EgressService that sets this source",
)
AWS: Final = Cni(
    "Amazon VPC CNI",
    keep="add SUBNET to AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS of the DaemonSet aws-node",
    masquerade="before the rules of the CNI, insert: iptables -t nat -I POSTROUTING -o LINK -j MASQUERADE",
)
IP_MASQ_AGENT: Final = Cni(
    "ip-masq-agent",
    keep="add SUBNET to nonMasqueradeCIDRs in the ConfigMap ip-masq-agent",
    masquerade="set nonMasqueradeCIDRs in the ConfigMap ip-masq-agent to networks that do not contain SUBNET; without "
    "it, they are all private networks",
)
KINDNET: Final = Cni(
    "kindnet",
    keep="add SUBNET to --no-masquerade-cidr of kindnetd",
    masquerade="remove SUBNET from --no-masquerade-cidr of kindnetd",
)
BRIDGE: Final = Cni(
    "the bridge or ptp plugin",
    keep="set ipMasq: false in the configuration of the network",
    masquerade="set ipMasq: true in the configuration of the network",
)
OTHER: Final = Cni(
    "",
    keep="insert a rule before it: iptables -t nat -I POSTROUTING -d SUBNET -j RETURN",
)

TABLES: Final[Mapping[str, Cni]] = {
    "calico": CALICO,
    "flannel-ipv4": FLANNEL_NFTABLES,
    "flannel-ipv6": FLANNEL_NFTABLES,
    "kindnet-ipmasq": KINDNET,
    "ovn-kubernetes": OVN,
    "cni_plugins_masquerade": BRIDGE,
}
CHAINS: Final[Mapping[str, Cni]] = {
    "cali-": CALICO,
    "FLANNEL-": FLANNEL,
    "CILIUM_": CILIUM,
    "OVN-KUBE-": OVN,
    "AWS-": AWS,
    "IP-MASQ": IP_MASQ_AGENT,
    "CNI-": BRIDGE,
}
"""By the beginning of the name of a chain."""


def find_cni(rule: NatRule) -> Cni:
    """Return what writes rules of this table or chain."""
    _, table, chain = rule.chain
    return TABLES.get(table) or next((cni for prefix, cni in CHAINS.items() if chain.startswith(prefix)), OTHER)
