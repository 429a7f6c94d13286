"""Probes of StaticRoute changes: the target, the generation that a node has, and the result, with their JSON form."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.parse import find_object, parse_address, parse_int, parse_text
from overlay_net.model.route_spec import encode_route, parse_routes

Revision: TypeAlias = tuple[str, int]
"""uid and generation of a StaticRoute; they differ after a spec change and for a new object of the same name."""

RouteProbeState: TypeAlias = Literal["Probing", "RolledBack", "ProbeFailed"]
"""Probing: in progress. RolledBack: previous routes restored. ProbeFailed: no answer, but the previous routes are
unknown, so the new ones remain."""

STATES: dict[str, RouteProbeState] = {"Probing": "Probing", "RolledBack": "RolledBack", "ProbeFailed": "ProbeFailed"}

DEFAULT_TIMEOUT = 5.0
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 1.0, 60.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Probe:
    """The target that must answer after a change of a StaticRoute's routes, and the timeout in seconds."""

    target: IpAddress
    port: int = 0
    """TCP port; 0: ICMP echo."""
    timeout: float = DEFAULT_TIMEOUT

    @classmethod
    def parse(cls, raw: JsonObject) -> "Probe | None":
        """``{tcp: "10.1.2.3:179"}`` or ``{icmp: "fd00::1"}``; None for anything else."""
        tcp = parse_text(raw.get("tcp"))
        host, _, digits = tcp.rpartition(":")
        target = parse_address(host.removeprefix("[").removesuffix("]") if tcp else raw.get("icmp"))
        port = int(digits) if digits.isascii() and digits.isdigit() else 0
        if target is None or (tcp and not 0 < port < 65536):
            return None
        return cls(target, port, parse_seconds(raw.get("timeout")))

    def to_json(self) -> JsonObject:
        return {"tcp" if self.port else "icmp": self.address, "timeout": f"{round(self.timeout * 1000)}ms"}

    @property
    def address(self) -> str:
        if not self.port:
            return str(self.target)
        return f"[{self.target}]:{self.port}" if self.target.version == 6 else f"{self.target}:{self.port}"

    def __str__(self) -> str:
        return f"{'tcp' if self.port else 'icmp'} {self.address}"


def parse_seconds(value: object) -> float:
    """Parse ``5s``, ``1500ms`` or ``1m``, limited to the bounds; the default for an absent or invalid value."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m)", parse_text(value))
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else DEFAULT_TIMEOUT
    # Whole milliseconds, as they are encoded: parsing them again must return the same value.
    return round(min(max(seconds, SHORTEST_TIMEOUT), LONGEST_TIMEOUT), 3)


@dataclass(frozen=True, slots=True)
class RouteGeneration:
    """The generation of a StaticRoute with a probe that the node's routes are from.

    Also an entry of NodeOverlayIp.spec.generations, which an earlier version wrote for staged rollouts, too.
    """

    static_route: str
    uid: str
    generation: int
    probe: Probe | None = None

    @property
    def revision(self) -> Revision:
        return (self.uid, self.generation)

    @classmethod
    def parse(cls, raw: JsonObject) -> "RouteGeneration":
        return cls(
            parse_text(raw.get("staticRoute")),
            parse_text(raw.get("uid")),
            parse_int(raw.get("generation")),
            Probe.parse(find_object(raw, "probe")),
        )

    def to_json(self) -> JsonObject:
        raw: JsonObject = {"staticRoute": self.static_route, "uid": self.uid, "generation": self.generation}
        return raw | ({"probe": self.probe.to_json()} if self.probe else {})


@dataclass(frozen=True, slots=True)
class RouteProbe:
    """One entry of status.probes: a generation of a StaticRoute that is not proven on this node or has failed."""

    static_route: str
    uid: str
    generation: int
    state: RouteProbeState
    message: str
    previous: tuple[DesiredRoute, ...] | None
    """The routes that were last proven on this node; None: unknown."""

    @classmethod
    def parse(cls, raw: JsonObject) -> "RouteProbe":
        return cls(
            parse_text(raw.get("staticRoute")),
            parse_text(raw.get("uid")),
            parse_int(raw.get("generation")),
            STATES.get(parse_text(raw.get("state")), "Probing"),
            parse_text(raw.get("message")),
            parse_routes(raw) if "routes" in raw else None,
        )

    def to_json(self) -> JsonObject:
        raw: JsonObject = {
            "staticRoute": self.static_route,
            "uid": self.uid,
            "generation": self.generation,
            "state": self.state,
            "message": self.message,
        }
        return raw if self.previous is None else raw | {"routes": [encode_route(route) for route in self.previous]}

    def matches(self, generation: RouteGeneration) -> bool:
        return (self.static_route, self.uid, self.generation) == (
            generation.static_route,
            generation.uid,
            generation.generation,
        )
