"""Checks which source on-premise hosts see of pods and of the node: the overlay address, that of the pod, or another.

It depends on the CNI (docs/cni.md), whose rules are in the answer of `overlay-net node-state`, or whose programs are
not examined.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network
from typing import Final

from overlay_net.domain.diagnosis.bpf_masquerade import check_programs
from overlay_net.domain.diagnosis.cnis import Cni, find_cni
from overlay_net.domain.diagnosis.finding import OK, PROBLEM, UNKNOWN, WARNING, Finding
from overlay_net.domain.diagnosis.kernel_state import KernelState, find_kernels
from overlay_net.domain.diagnosis.nat_rules import NatRule, NatRules, Outcome, Packet
from overlay_net.domain.diagnosis.networks import Networks
from overlay_net.domain.diagnosis.snapshot import Snapshot
from overlay_net.model.net import IpNetwork
from overlay_net.model.parse import parse_text

MAX_SOURCES: Final = 8
"""Of pods, for each version of IP: a CNI treats all of them alike."""
OVN_LINK: Final = "ovn-k8s-mp0"


def check_masquerade(snapshot: Snapshot) -> Iterator[Finding]:
    for kernel in find_kernels(snapshot):
        if unread := parse_text(kernel.state.get("natUnread")):
            what = f"not all translations were examined: {unread}"
            yield Finding(UNKNOWN, what, "examine them by hand", (kernel.node,))
        if kernel.subnets:
            yield from _Examination(kernel).check()
            yield from check_programs(kernel, snapshot.cilium)


class _Examination:
    """Follows packets of pods and of the node to the subnets of StaticRoutes; one finding for each rule."""

    def __init__(self, kernel: KernelState) -> None:
        self._kernel = kernel
        self._rules = NatRules(kernel.state)
        self._addresses = {str(each.ip) for each in kernel.overlay_addresses}
        self._found: dict[tuple[str, NatRule], list[IpNetwork]] = {}
        """Subnets, by verdict and rule."""
        self._untouched: list[IpNetwork] = []
        """Subnets to which no rule concerns pods."""

    def check(self) -> Iterator[Finding]:
        for subnets in self._group():
            self._follow(subnets)
        for (verdict, rule), subnets in self._found.items():
            yield self._describe(verdict, rule, list(dict.fromkeys(subnets)))
        yield from self._check_gateway_mode()

    def _group(self) -> Iterable[Sequence[IpNetwork]]:
        """Return the subnets, and the parts of them that rules name, with those that all rules treat alike together."""
        matches = [match for rule in self._rules.rules for match in rule.matches if match.field == "destination"]
        named = Networks(network for match in matches for network in match.networks)
        groups: dict[tuple[int, ...], list[IpNetwork]] = {}
        for subnet in self._kernel.subnets:
            for part in (subnet, *named.find_inside(subnet)):
                contained = (number for number, match in enumerate(matches) if match.contains(part))
                groups.setdefault((part.version, *contained), []).append(part)
        return groups.values()

    def _follow(self, subnets: Sequence[IpNetwork]) -> None:
        subnet, link = subnets[0], self._kernel.overlay_name
        for address in self._kernel.overlay_addresses:
            if address.version == subnet.version:
                self._judge(self._rules.follow(Packet(ip_network(address.ip), subnet, link, local=True)), subnets)
        untouched = False
        for source in self._find_sources(subnet.version):
            outcome = self._rules.follow(Packet(source, subnet, link))
            self._judge(outcome, subnets)
            if outcome.translation is not None and outcome.translation.action == "masquerade":
                self._add(OK, outcome.translation, subnets)
            elif outcome.exemption is not None:
                self._add(WARNING, outcome.exemption, subnets)
            elif outcome.translation is None:
                untouched = True
        if untouched:
            self._untouched += subnets

    def _judge(self, outcome: Outcome, subnets: Sequence[IpNetwork]) -> None:
        """Record what is wrong with traffic of the node as well."""
        rule = outcome.translation
        if rule is not None and rule.action == "snat" and rule.target not in self._addresses:
            self._add(PROBLEM if rule.target else UNKNOWN, rule, subnets)
        for each in outcome.unclear:
            if each.target not in self._addresses:
                self._add(UNKNOWN, each, subnets)

    def _add(self, verdict: str, rule: NatRule, subnets: Sequence[IpNetwork]) -> None:
        # What is right is one finding for each CNI, which may have a rule for each pod.
        alike = (key for key in self._found if key[0] == verdict == OK and find_cni(key[1]) is find_cni(rule))
        self._found.setdefault(next(alike, (verdict, rule)), []).extend(subnets)

    def _find_sources(self, version: int) -> Sequence[IpNetwork | None]:
        """Return those of pods, and parts of them that rules name; without pods on the node, all that rules name."""
        pods = [each for each in self._kernel.pods if each.version == version]
        named = Networks(each for rule in self._rules.rules for each in rule.sources if each.version == version)
        # A rule may be about one pod.
        parts = [part for subnet in pods for part in named.find_inside(subnet)] if pods else list(named)
        return [*pods, *parts][:MAX_SOURCES] or [None]

    def _describe(self, verdict: str, rule: NatRule, subnets: Sequence[IpNetwork]) -> Finding:
        where = str(subnets[0]) if len(subnets) == 1 else f"{subnets[0]} and {len(subnets) - 1} more"
        cni = find_cni(rule)
        what, fix = _word(verdict, rule, where, cni)
        fix = fix.replace("SUBNET", str(subnets[0])).replace("LINK", self._kernel.overlay_name)
        return Finding(verdict, what, f"{cni.name}: {fix}" if cni.name else fix, (self._kernel.node,))

    def _check_gateway_mode(self) -> Iterator[Finding]:
        if self._untouched and OVN_LINK in self._kernel.links:
            what = (
                f"no rule concerns pods that reach {self._untouched[0]}: in the gateway mode shared of OVN-Kubernetes, "
                "pods leave through its own router, without the routes of the node"
            )
            fix = "set routingViaHost: true in gatewayConfig (gateway mode local), if pods are to use StaticRoutes"
            yield Finding(WARNING, what, fix, (self._kernel.node,))


def _word(verdict: str, rule: NatRule, where: str, cni: Cni) -> tuple[str, str]:
    """Return what is found, and the fix."""
    match verdict:
        case "problem":
            return f"traffic to {where} leaves as {rule.target}, not as the overlay address: {rule.text}", cni.snat
        case "warning":
            fix = f"{cni.masquerade}; or let the on-premise network route the pods to the overlay addresses"
            return f"pods reach {where} with their own addresses, not with the overlay address: {rule.text}", fix
        case "ok":
            fix = f"if pods are to keep their own addresses: {cni.keep}"
            return f"pods reach {where} as the overlay address: {rule.text}", fix
    return f"traffic to {where} may leave as another address: {rule.text}", f"if it does, {cni.snat}"
