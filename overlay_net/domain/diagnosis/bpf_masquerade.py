"""What is known of CNIs that masquerade in eBPF: their programs are not examined, but their configuration is."""

from collections.abc import Iterator
from typing import Final

from overlay_net.domain.diagnosis.finding import UNKNOWN, WARNING, Finding
from overlay_net.domain.diagnosis.kernel_state import KernelState
from overlay_net.domain.diagnosis.snapshot import Reading, Unread
from overlay_net.model.api import JsonObject
from overlay_net.model.net import IpNetwork
from overlay_net.model.parse import parse_network, parse_text

CILIUM_LINK: Final = "cilium_host"
CALICO_LINK: Final = "bpfin.cali"
STATUS: Final = "kubectl --namespace kube-system exec ds/cilium -- cilium status --verbose | grep Masquerading"
CONFIG: Final = "in the ConfigMap cilium-config"


def check_programs(kernel: KernelState, cilium: Reading[JsonObject | None]) -> Iterator[Finding]:
    if CALICO_LINK in kernel.links:
        what = "Calico's eBPF data plane marks what is to be masqueraded, which is not examined"
        fix = f"observe with which sources packets leave: tcpdump -n -i {kernel.overlay_name}"
        yield Finding(UNKNOWN, what, fix, (kernel.node,))
    if CILIUM_LINK in kernel.links:
        yield from _check_cilium(kernel, cilium)


def _check_cilium(kernel: KernelState, cilium: Reading[JsonObject | None]) -> Iterator[Finding]:
    if isinstance(cilium, Unread):
        what = f"whether Cilium masquerades in eBPF is not known: {cilium.message}"
        yield Finding(UNKNOWN, what, STATUS, (kernel.node,))
        return
    if cilium.value is None:
        what = "whether Cilium masquerades in eBPF is not known: there is no ConfigMap cilium-config in kube-system"
        yield Finding(UNKNOWN, what, STATUS.replace("kube-system", "NAMESPACE"), (kernel.node,))
        return
    data = cilium.value
    if not _is_enabled(data, "enable-bpf-masquerade"):
        # Its rules were examined, if it has any.
        return
    for version in sorted({subnet.version for subnet in kernel.subnets}):
        if _is_enabled(data, f"enable-ipv{version}-masquerade", default=True):
            subnets = [subnet for subnet in kernel.subnets if subnet.version == version]
            yield _judge_range(kernel, data, version, subnets) or _judge_devices(kernel, data)


def _judge_range(kernel: KernelState, data: JsonObject, version: int, subnets: list[IpNetwork]) -> Finding | None:
    key = f"ipv{version}-native-routing-cidr"
    native = parse_network(data.get(key))
    inside = [each for each in subnets if native is not None and each.subnet_of(native)]  # type: ignore[arg-type]
    if not inside:
        return None
    what = f"pods reach {inside[0]} with their own addresses, not with the overlay address: {key} {native} {CONFIG}"
    fix = f"Cilium: narrow {key}; or let the on-premise network route the pods to the overlay addresses"
    return Finding(WARNING, what, fix, (kernel.node,))


def _judge_devices(kernel: KernelState, data: JsonObject) -> Finding:
    link, devices = kernel.overlay_name, parse_text(data.get("devices")).replace(",", " ").split()
    if devices and not any(_covers(each, link) for each in devices):
        what = f"Cilium masquerades in eBPF, but not on {link}: devices are {', '.join(devices)} {CONFIG}"
        return Finding(WARNING, what, f"Cilium: add {link} to devices", (kernel.node,))
    agent = ", which also has a list of its ip-masq-agent" if _is_enabled(data, "enable-ip-masq-agent") else ""
    what = f"Cilium masquerades in eBPF, which is not examined{agent}: its program must run on {link}"
    return Finding(UNKNOWN, what, f"check that it lists {link}: {STATUS}", (kernel.node,))


def _covers(device: str, link: str) -> bool:
    return link.startswith(device[:-1]) if device.endswith("+") else device == link


def _is_enabled(data: JsonObject, key: str, *, default: bool = False) -> bool:
    return parse_text(data.get(key)).lower() == "true" if key in data else default
