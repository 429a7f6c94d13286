"""Follows a packet through the rules that translate sources, as the kernel does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from overlay_net.domain.diagnosis.networks import Networks
from overlay_net.model.api import JsonObject
from overlay_net.model.net import IpNetwork
from overlay_net.model.parse import find_objects, find_texts, parse_int, parse_network, parse_text

TRANSLATIONS: Final = frozenset({"masquerade", "snat"})
Chain = tuple[str, str, str]
"""Family, table and name."""


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a flow, without a mark, which leaves through ``link``."""

    source: IpNetwork | None
    """None: an address that no rule names."""
    destination: IpNetwork
    link: str
    local: bool = False
    """Whether the source is an address of the node."""


@dataclass(frozen=True, slots=True, eq=False)
class NatMatch:
    """A condition as `overlay-net node-state` describes it (adapters/netlink/nftables/matches.py)."""

    field: str
    inverted: bool
    networks: Networks
    content: JsonObject

    @classmethod
    def parse(cls, raw: JsonObject) -> "NatMatch":
        networks = (parse_network(text) for text in find_texts(raw, "networks"))
        known = Networks(each for each in networks if each is not None)
        return cls(parse_text(raw.get("field")), raw.get("inverted") is True, known, raw)

    def hits(self, packet: Packet) -> bool | None:
        """Return whether the packet meets the condition; None: not known."""
        found = self._compare(packet)
        return found if found is None else found != self.inverted

    def _compare(self, packet: Packet) -> bool | None:
        match self.field:
            case "source":
                return packet.source is not None and self.contains(packet.source)
            case "destination":
                return self.contains(packet.destination)
            case "output":
                name = parse_text(self.content.get("name"))
                return packet.link.startswith(name[:-1]) if name.endswith("*") else packet.link == name
            case "mark":
                return parse_int(self.content.get("value")) == 0
            case "sourceType":
                return packet.local == (self.content.get("local") is True)
            case "destinationType":
                # It is behind a gateway.
                return self.content.get("local") is not True
            case "version":
                return packet.destination.version == self.content.get("version")
        return None

    def contains(self, subnet: IpNetwork) -> bool:
        return self.networks.contains(subnet)


@dataclass(frozen=True, slots=True, eq=False)
class NatRule:
    chain: Chain
    action: str
    target: str
    """Of ``snat``: the source that it sets; empty: not known."""
    to: str
    """Of ``jump`` and ``goto``: a chain of the same table."""
    matches: tuple[NatMatch, ...]
    text: str

    @classmethod
    def parse(cls, raw: JsonObject) -> "NatRule":
        chain, action = _parse_chain(raw), parse_text(raw.get("action"))
        target, to = parse_text(raw.get("target")), parse_text(raw.get("to"))
        matches = tuple(map(NatMatch.parse, find_objects(raw, "matches")))
        return cls(chain, action, target, to, matches, f"{parse_text(raw.get('text'))} ({' '.join(chain)})")

    def hits(self, packet: Packet) -> bool | None:
        hits = [each.hits(packet) for each in self.matches]
        return False if False in hits else None if None in hits else True

    def exempts(self, packet: Packet) -> bool:
        """Return whether it would translate the packet if the destination or the link were another."""
        missed = [each for each in self.matches if each.hits(packet) is not True]
        return self.action in TRANSLATIONS and bool(missed) and all(_is_exemption(each, packet) for each in missed)

    @property
    def names_destination(self) -> bool:
        return any(each.field in ("destination", "output") for each in self.matches)

    @property
    def sources(self) -> Iterator[IpNetwork]:
        """The sources that it names, but those of the node itself."""
        for each in self.matches:
            if each.field == "source" and not each.inverted:
                yield from (subnet for subnet in each.networks if not subnet.is_loopback and not subnet.is_link_local)


def _is_exemption(missed: NatMatch, packet: Packet) -> bool:
    if missed.field == "output":
        # Without a source, the rule may be about anything that leaves through that link.
        return not missed.inverted and packet.source is not None
    return missed.field == "destination" and missed.inverted


@dataclass(slots=True)
class Outcome:
    translation: NatRule | None = None
    returns: list[NatRule] = field(default_factory=list)
    """Rules that ended a chain for its destination, in the order in which it met them."""
    exclusions: list[NatRule] = field(default_factory=list)
    """Rules that would have translated it, but for its destination or link."""
    unclear: list[NatRule] = field(default_factory=list)
    """Rules that set another source under conditions that are not known."""

    def note_miss(self, rule: NatRule, packet: Packet) -> None:
        if rule.action == "snat" and rule.hits(packet) is None:
            self.unclear.append(rule)
        elif rule.exempts(packet):
            self.exclusions.append(rule)

    def note_hit(self, rule: NatRule) -> None:
        if rule.action not in TRANSLATIONS and rule.names_destination:
            self.returns.append(rule)

    @property
    def exemption(self) -> NatRule | None:
        """Return the rule because of which the packet keeps its source, if it does and a rule is about it."""
        candidates = () if self.translation is not None else (*self.returns, *self.exclusions)
        return next(iter(candidates), None)


class NatRules:
    def __init__(self, state: JsonObject) -> None:
        self._hooks = [_parse_chain(each) for each in find_objects(state, "natHooks")]
        self.rules = [NatRule.parse(each) for each in find_objects(state, "nat")]
        chains: dict[Chain, list[NatRule]] = {}
        for rule in self.rules:
            chains.setdefault(rule.chain, []).append(rule)
        self._chains: Mapping[Chain, Sequence[NatRule]] = chains

    def follow(self, packet: Packet) -> Outcome:
        outcome = Outcome()
        family = "ip" if packet.destination.version == 4 else "ip6"
        for hook in self._hooks:
            if hook[0] in ("inet", family):
                decided = self._walk(hook, packet, outcome)
                if decided is not None and decided.action in TRANSLATIONS:
                    outcome.translation = decided
                    break
        return outcome

    def _walk(self, chain: Chain, packet: Packet, outcome: Outcome) -> NatRule | None:
        """Return the rule that translates the packet or ends the hook; None: the calling chain goes on."""
        for rule in self._chains.get(chain, ()):
            if not rule.hits(packet):
                outcome.note_miss(rule, packet)
            elif rule.action == "jump":
                decided = self._walk((*chain[:2], rule.to), packet, outcome)
                if decided is not None:
                    return decided
            elif rule.action == "goto":
                return self._walk((*chain[:2], rule.to), packet, outcome)
            else:
                outcome.note_hit(rule)
                return None if rule.action == "return" else rule
        return None


def _parse_chain(raw: JsonObject) -> Chain:
    return parse_text(raw.get("family")), parse_text(raw.get("table")), parse_text(raw.get("chain"))
