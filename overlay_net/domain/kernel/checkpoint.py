"""The checkpoint: the file format of the last desired state of this node, and its validity after a restart.

The checkpoint has two parts. The *state* is the desired state, written when it changes. The *confirmation* is the time
at which the API server last confirmed that state; it is small, so it is cheap to renew. Each part consists of one line
of header (format, version, SHA-256 of the rest) and one line of JSON.

After the deletion of a NodeOverlayIp the controller waits ``fence_after`` for an unresponsive agent, and then releases
the address. The deletion is later than the last confirmation that the agent has received. Therefore no other host can
get the address until ``fence_after`` after that confirmation. ``resurrect_for`` is that time minus a margin for a
confirmation in flight, a slow clock, and the time until the address is in use.
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
"""Format name in the header of both files; fixed, because an upgraded agent reads existing files."""
VERSION = 1
MARGIN = 0.1
"""Fraction of ``fence_after`` that is not used."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time on two clocks: the wall clock may be set, the uptime is valid until the next boot."""

    wall: datetime
    boot: str
    """Id of the boot (/proc/sys/kernel/random/boot_id)."""
    uptime: float
    """Seconds since that boot, including suspended time (CLOCK_BOOTTIME)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    overlay: NodeOverlay
    confirmed: Moment


@dataclass(frozen=True, slots=True)
class CheckpointContent:
    """The content of both files; None: there is no file."""

    state: bytes | None
    confirmation: bytes | None


@dataclass(frozen=True, slots=True)
class CheckpointProblem:
    """Why the checkpoint cannot be stored; ``reason`` is CamelCase."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckpointHealth:
    """The state of the checkpoint, for the report."""

    problem: CheckpointProblem | None = None
    is_outdated: bool = False
    """Whether a restart could restore another desired state than the present one."""


HEALTHY = CheckpointHealth()


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why there is no checkpoint to restore; ``reason`` is CamelCase."""

    reason: str
    message: str


def encode_checkpoint(overlay: NodeOverlay, route_probes: tuple[RouteProbe, ...] = ()) -> bytes:
    """Encode the desired state as an API object. Reports and versions of the object do not affect the result.

    ``route_probes`` are the changes that are not proven or were rolled back, stored as in a report.
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
    if overlay.cluster:
        spec["clusterID"] = overlay.cluster
    body = NODE_OVERLAY_IPS.manifest(overlay.name, uid=overlay.uid, spec=spec, status=status)
    # Routes are encoded one by one, as the JSON objects of all would take many times the memory of the text.
    before, _, after = _compact(body).partition(_NO_ROUTES)
    routes = b",".join(_compact(encode_route(route)) for route in overlay.routes)
    return _seal(b"".join((before, _NO_ROUTES[:-1], routes, _NO_ROUTES[-1:], after)))


def is_same_checkpoint(one: NodeOverlay, other: NodeOverlay) -> bool:
    """Return whether both certainly have the same checkpoint, without comparing thousands of routes."""
    return one.routes is other.routes and is_same_but_routes(one, other)


def is_same_but_routes(one: NodeOverlay, other: NodeOverlay) -> bool:
    """Return whether the checkpoints of both certainly differ in routes at most."""
    return (
        one.routes_only == other.routes_only
        and one.generations == other.generations
        and (one.name, one.uid, one.cluster) == (other.name, other.uid, other.cluster)
        and (one.assignment.address, one.assignment.gateway) == (other.assignment.address, other.assignment.gateway)
        and one.report.configured == other.report.configured
    )


def checkpoint_digest(state: bytes) -> str:
    """Return the digest that identifies a state in its confirmation."""
    return sha256(state).hexdigest()


def encode_confirmation(state: str, confirmed: Moment) -> bytes:
    """Encode the time at which the API server confirmed the state with this digest."""
    return _seal(
        _compact(
            {
                "state": state,
                "confirmed": confirmed.wall.isoformat(),
                "boot": confirmed.boot,
                "uptime": confirmed.uptime,
            }
        )
    )


def decode_checkpoint(content: CheckpointContent, node: str) -> Checkpoint | Unusable:
    """Decode both files if they are complete and belong to this node."""
    state, confirmation = content.state, content.confirmation
    if state is None:
        return Unusable("Absent", "there is no checkpoint")
    raw = _open(state, "checkpoint")
    if isinstance(raw, Unusable):
        return raw
    if raw.get("kind") != NODE_OVERLAY_IPS.kind:
        return Unusable("Broken", "the checkpoint is not a NodeOverlayIp")
    overlay = NodeOverlay.parse(raw)
    if overlay.name != node:
        return Unusable("Foreign", f"the checkpoint is of node {overlay.name}, and this is {node}")
    if confirmation is None:
        return Unusable("Unconfirmed", "the checkpoint has no confirmation")
    raw = _open(confirmation, "confirmation")
    if isinstance(raw, Unusable):
        return raw
    if raw.get("state") != checkpoint_digest(state):
        return Unusable("Unconfirmed", "the confirmation is of another checkpoint")
    confirmed = _parse_moment(raw)
    return confirmed if isinstance(confirmed, Unusable) else Checkpoint(overlay, confirmed)


def check_age(confirmed: Moment, now: Moment, resurrect_for: timedelta) -> Unusable | None:
    """Return why a checkpoint confirmed at this time must not be restored now; None if it may be restored."""
    by_wall_clock = now.wall - confirmed.wall
    if by_wall_clock < timedelta():
        return Unusable("ClockJumped", f"the checkpoint was confirmed at {confirmed.wall:%F %T}, in the future")
    # The wall clock may have been set back, the uptime cannot; after a reboot the uptime is a lower bound.
    elapsed = now.uptime - confirmed.uptime if now.boot == confirmed.boot else now.uptime
    age = max(by_wall_clock, timedelta(seconds=elapsed))
    if age >= resurrect_for:
        return Unusable(
            "Stale",
            f"the checkpoint was last confirmed {age.total_seconds():.0f} s ago; after "
            f"{resurrect_for.total_seconds():.0f} s another node may have the address",
        )
    return None


_NO_ROUTES = b'"routes":[]'


def _compact(body: JsonObject) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _seal(text: bytes) -> bytes:
    header = {"format": FORMAT, "version": VERSION, "sha256": sha256(text).hexdigest()}
    return json.dumps(header).encode() + b"\n" + text + b"\n"


def _open(content: bytes, what: str) -> JsonObject | Unusable:
    first, _, text = content.partition(b"\n")
    header = _parse_object(first)
    if header is None or header.get("format") != FORMAT:
        return Unusable("Broken", f"the {what} is not a file of overlay-net")
    version = header.get("version")
    if version != VERSION:
        return Unusable("OtherVersion", f"the {what} has version {version!r}, and this agent reads version {VERSION}")
    text = text.removesuffix(b"\n")
    if header.get("sha256") != sha256(text).hexdigest():
        return Unusable("Broken", f"the {what} is damaged: its checksum does not match")
    body = _parse_object(text)
    return body if body is not None else Unusable("Broken", f"the {what} is not a JSON object")


def _parse_object(text: bytes) -> JsonObject | None:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _parse_moment(raw: JsonObject) -> Moment | Unusable:
    uptime = raw.get("uptime")
    try:
        wall = datetime.fromisoformat(parse_text(raw.get("confirmed")))
    except ValueError:
        wall = None
    if wall is None or wall.tzinfo is None or not isinstance(uptime, int | float):
        return Unusable("Broken", "the confirmation has no valid time")
    return Moment(wall, parse_text(raw.get("boot")), float(uptime))
