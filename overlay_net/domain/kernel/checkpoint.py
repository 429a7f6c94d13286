"""The last desired state of this node as bytes for a file, and whether it may still be used after a restart.

Two texts. The *state* is what the node must have, written when that changes; the *stamp* is small and says when the API
last confirmed that very state, so that confirming it again costs next to nothing. Each is one line of header (format,
version, SHA-256 of the rest) and one line of JSON.

The rule of trust: once a node is deleted, its controller waits ``fence_after`` for a silent agent, counted from the
deletion of the NodeOverlayIp, and then gives the address to somebody else. The deletion comes after the last
confirmation that the agent saw. So up to ``fence_after`` after that confirmation nobody else can have the address;
``resurrect_for`` is that time less a margin for what lies between: a confirmation that was on its way, a clock that
runs slow, and the time until the address is in use.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from overlay_net.model.api import JsonObject
from overlay_net.model.names import NODE_OVERLAY_IPS
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import parse_text
from overlay_net.model.route_probe import RouteProbe
from overlay_net.model.route_spec import encode_route

FORMAT = "overlay-net last state"
VERSION = 1
MARGIN = 0.1
"""Share of the fence time that is not used."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time on two clocks, of which only the second can be relied on, and only until the next boot."""

    wall: datetime
    boot: str
    """Which boot (/proc/sys/kernel/random/boot_id)."""
    uptime: float
    """Seconds since that boot, suspended ones included (CLOCK_BOOTTIME)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    overlay: NodeOverlay
    confirmed: Moment


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why nothing is brought back; ``reason`` is CamelCase."""

    reason: str
    message: str


def encode_checkpoint(overlay: NodeOverlay, route_probes: tuple[RouteProbe, ...] = ()) -> bytes:
    """What the agent acts on, in the form of the API. Reports and versions of the object do not change it.

    ``trials``: which of it is not proven, or was rolled back; in the place where a report has them.
    """
    address = overlay.assignment.address or overlay.report.configured
    gateway: IpAddress | None = overlay.assignment.gateway
    spec: JsonObject = {"routes": []}
    if overlay.routes_only:
        spec["routesOnly"] = True
    status: JsonObject = {}
    if address is not None:
        status["ipAddr"] = str(address)
    if gateway is not None:
        status["gateway"] = str(gateway)
    if route_probes:
        status["probes"] = [route_probe.to_json() for route_probe in route_probes]
    if overlay.generations:
        spec["generations"] = [each.to_json() for each in overlay.generations]
    body = NODE_OVERLAY_IPS.manifest(overlay.name, uid=overlay.uid, spec=spec, status=status)
    # Each route becomes text on its own: all of them as JSON objects would take many times the memory of the text.
    before, _, after = _compact(body).partition(_NO_ROUTES)
    routes = b",".join(_compact(encode_route(route)) for route in overlay.routes)
    return _sealed(b"".join((before, _NO_ROUTES[:-1], routes, _NO_ROUTES[-1:], after)))


def is_same_checkpoint(one: NodeOverlay, other: NodeOverlay | None) -> bool:
    """Whether the state of both is the same for certain, without a look at thousands of routes."""
    return (
        other is not None
        and one.routes is other.routes
        and one.routes_only == other.routes_only
        and one.generations == other.generations
        and (one.name, one.uid) == (other.name, other.uid)
        and (one.assignment.address, one.assignment.gateway) == (other.assignment.address, other.assignment.gateway)
        and one.report.configured == other.report.configured
    )


def checkpoint_digest(state: bytes) -> str:
    """What stands for a state in its confirmation."""
    return sha256(state).hexdigest()


def encode_confirmation(state: str, confirmed: Moment) -> bytes:
    """That the API confirmed the very state of this digest, and when."""
    return _sealed(
        _compact(
            {
                "state": state,
                "confirmed": confirmed.wall.isoformat(),
                "boot": confirmed.boot,
                "uptime": confirmed.uptime,
            }
        )
    )


def decode_checkpoint(state: bytes | None, stamp: bytes | None, node: str) -> Checkpoint | Unusable:
    """The content of both files (None: there is none), as far as it is this node's and whole."""
    if state is None:
        return Unusable("Absent", "no earlier state is kept")
    raw = _opened(state, "state")
    if isinstance(raw, Unusable):
        return raw
    if raw.get("kind") != NODE_OVERLAY_IPS.kind:
        return Unusable("Broken", "the kept state is not a NodeOverlayIp")
    overlay = NodeOverlay.parse(raw)
    if overlay.name != node:
        return Unusable("Foreign", f"the kept state is that of node {overlay.name!r}, and this is {node!r}")
    if stamp is None:
        return Unusable("Unconfirmed", "nothing says when the kept state was last confirmed")
    raw = _opened(stamp, "confirmation")
    if isinstance(raw, Unusable):
        return raw
    if raw.get("state") != checkpoint_digest(state):
        return Unusable("Unconfirmed", "the kept confirmation is that of another state")
    confirmed = _moment(raw)
    return confirmed if isinstance(confirmed, Unusable) else Checkpoint(overlay, confirmed)


def check_age(confirmed: Moment, now: Moment, resurrect_for: timedelta) -> Unusable | None:
    """Why a state that was confirmed then is not to be brought back now; None where it may be."""
    by_wall = now.wall - confirmed.wall
    if by_wall < timedelta():
        return Unusable(
            "ClockJumped", f"the kept state was confirmed at {confirmed.wall:%F %T}, which is in the future"
        )
    # The wall clock may have been set back meanwhile. The other one cannot; after a boot it says at least how long
    # that is ago.
    since = now.uptime - confirmed.uptime if now.boot == confirmed.boot else now.uptime
    age = max(by_wall, timedelta(seconds=since))
    if age >= resurrect_for:
        return Unusable(
            "Stale",
            f"the kept state was last confirmed {age.total_seconds():.0f} s ago, and after "
            f"{resurrect_for.total_seconds():.0f} s the address may be somebody else's",
        )
    return None


_NO_ROUTES = b'"routes":[]'


def _compact(body: JsonObject) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _sealed(text: bytes) -> bytes:
    header = {"format": FORMAT, "version": VERSION, "sha256": sha256(text).hexdigest()}
    return json.dumps(header).encode() + b"\n" + text + b"\n"


def _opened(content: bytes, what: str) -> JsonObject | Unusable:
    first, _, text = content.partition(b"\n")
    header = _json_object(first)
    if header is None or header.get("format") != FORMAT:
        return Unusable("Broken", f"the kept {what} is not one of ours")
    version = header.get("version")
    if version != VERSION:
        return Unusable("OtherVersion", f"the kept {what} has version {version!r}, and this agent reads {VERSION}")
    text = text.removesuffix(b"\n")
    if header.get("sha256") != sha256(text).hexdigest():
        return Unusable("Broken", f"the kept {what} is damaged: its checksum differs")
    body = _json_object(text)
    return body if body is not None else Unusable("Broken", f"the kept {what} is no JSON object")


def _json_object(text: bytes) -> JsonObject | None:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _moment(raw: JsonObject) -> Moment | Unusable:
    uptime = raw.get("uptime")
    try:
        wall = datetime.fromisoformat(parse_text(raw.get("confirmed")))
    except ValueError:
        wall = None
    if wall is None or wall.tzinfo is None or not isinstance(uptime, int | float):
        return Unusable("Broken", "the kept confirmation has no time")
    return Moment(wall, parse_text(raw.get("boot")), float(uptime))
