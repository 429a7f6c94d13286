"""What proves a StaticRoute's change on a node, which of its generations a node is told, and what came of it, as JSON
and back.
"""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.parse import find_object, parse_address, parse_int, parse_text
from overlay_net.model.route_spec import encode_route, parse_routes

Revision: TypeAlias = tuple[str, int]
"""uid and generation of a StaticRoute: another spec, or another object of the same name, has another one."""

RouteProbeState: TypeAlias = Literal["Probing", "RolledBack", "ProbeFailed"]
"""Under way; the routes of before are back; no answer, and nobody knows what was before, so the routes stay."""

STATES: dict[str, RouteProbeState] = {"Probing": "Probing", "RolledBack": "RolledBack", "ProbeFailed": "ProbeFailed"}

DEFAULT_TIMEOUT = 5.0
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 1.0, 60.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Probe:
    """Who must answer after a change of a StaticRoute's routes, within how many seconds."""

    target: IpAddress
    port: int = 0
    """Of TCP; 0: ICMP echo."""
    timeout: float = DEFAULT_TIMEOUT

    @classmethod
    def parse(cls, raw: JsonObject) -> "Probe | None":
        """``{tcp: "10.1.2.3:179"}`` or ``{icmp: "fd00::1"}``; None for what is neither."""
        tcp = parse_text(raw.get("tcp"))
        host, _, digits = tcp.rpartition(":")
        target = parse_address(host.removeprefix("[").removesuffix("]") if tcp else raw.get("icmp"))
        port = int(digits) if digits.isascii() and digits.isdigit() else 0
        if target is None or (tcp and not 0 < port < 65536):
            return None
        return cls(target, port, seconds_of(raw.get("timeout")))

    def to_json(self) -> JsonObject:
        return {"tcp" if self.port else "icmp": self.address, "timeout": f"{round(self.timeout * 1000)}ms"}

    @property
    def address(self) -> str:
        if not self.port:
            return str(self.target)
        return f"[{self.target}]:{self.port}" if self.target.version == 6 else f"{self.target}:{self.port}"

    def __str__(self) -> str:
        return f"{'tcp' if self.port else 'icmp'} {self.address}"


def seconds_of(value: object) -> float:
    """``5s``, ``1500ms``, ``1m``; the default for what is absent or broken, the nearest bound for what is beyond."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m)", parse_text(value))
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else DEFAULT_TIMEOUT
    # Whole milliseconds: what is written must be what was meant when it is read back.
    return round(min(max(seconds, SHORTEST_TIMEOUT), LONGEST_TIMEOUT), 3)


@dataclass(frozen=True, slots=True)
class RouteGeneration:
    """One entry of NodeOverlayIp.spec.generations: of which generation of a StaticRoute the node's routes are.

    Only of StaticRoutes with a probe or a staged roll-out.
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
    """One entry of status.probes: a generation of a StaticRoute that is not proven on this node, or was refuted."""

    static_route: str
    uid: str
    generation: int
    state: RouteProbeState
    message: str
    previous: tuple[DesiredRoute, ...] | None
    """Its routes as they last were proven on this node; None: nobody knows."""

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

    def is_of(self, told: RouteGeneration) -> bool:
        return (self.static_route, self.uid, self.generation) == (told.static_route, told.uid, told.generation)
