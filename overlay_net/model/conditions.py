"""Conditions of objects, as the API conventions define them (metav1.Condition)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from overlay_net.model.api import JsonObject
from overlay_net.model.parse import (
    encode_time,
    find_objects,
    keep_unicode,
    keep_whole_seconds,
    parse_int,
    parse_text,
    parse_time,
)

RESERVED: Final = "Reserved"
ROUTES_WITHDRAWN: Final = "RoutesWithdrawn"
ROUTES_ACCEPTED: Final = "RoutesAccepted"
CONFIGURED: Final = "Configured"
READY: Final = "Ready"
ACCEPTED: Final = "Accepted"
PROGRAMMED: Final = "Programmed"
UP_TO_DATE: Final = "UpToDate"
CONSISTENT: Final = "Consistent"
GATEWAY_REACHABLE: Final = "GatewayReachable"
METRICS_SERVED: Final = "MetricsServed"
CHECKPOINT_STORED: Final = "CheckpointStored"
PRIVATE_ADDRESS_REACHABLE: Final = "PrivateAddressReachable"
ROUTE_SETS_KNOWN: Final = "RouteSetsKnown"

CONTROLLER_CONDITIONS: Final = frozenset({RESERVED, ROUTES_WITHDRAWN, ROUTES_ACCEPTED, UP_TO_DATE})
"""Conditions of a NodeOverlayIp that only the controller writes."""

ADDRESS_CONFLICT: Final = "AddressConflict"
"""Reason of ``Configured=False`` by which an agent reports that another host uses the assigned address (RFC 5227)."""

ADDRESS_CLAIMED: Final = "AddressClaimed"
"""Reason of ``Configured=True`` by which an agent reports that another host claims the configured address."""

MAC_CONFLICT: Final = "MACConflict"
"""Reason of ``Ready=False`` by which an agent reports that another host has the MAC of the overlay link."""

RELEASED: Final = "Released"
"""Reason of ``Configured=False`` by which an agent reports that it has removed link, address and routes."""

SHADOWED: Final = "Shadowed"
"""Reason for a route in the kernel whose traffic takes a route of another process."""

AGENT_STALE: Final = "AgentStale"
"""Reason of ``Ready=Unknown`` for a node whose agent is silent."""

_STATUSES: Final = {"True": True, "False": False}


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: bool | None
    """None: Unknown."""
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: datetime | None = None

    def __post_init__(self) -> None:
        keep_whole_seconds(self, "last_transition_time")
        keep_unicode(self, "message")

    @classmethod
    def parse(cls, raw: JsonObject) -> "Condition":
        return cls(
            type=parse_text(raw.get("type")),
            status=_STATUSES.get(parse_text(raw.get("status"))),
            reason=parse_text(raw.get("reason")),
            message=parse_text(raw.get("message")),
            observed_generation=parse_int(raw.get("observedGeneration")),
            last_transition_time=parse_time(raw.get("lastTransitionTime")),
        )

    def to_json(self) -> JsonObject:
        raw: JsonObject = {
            "type": self.type,
            "status": "Unknown" if self.status is None else str(self.status),
            "reason": self.reason,
            "message": self.message,
        }
        if self.observed_generation:
            raw["observedGeneration"] = self.observed_generation
        if self.last_transition_time is not None:
            raw["lastTransitionTime"] = encode_time(self.last_transition_time)
        return raw


def is_ready_unknown(condition: Condition) -> bool:
    """Return whether this is ``Ready=Unknown`` of a NodeOverlayIp, which only the controller writes."""
    return condition.type == READY and condition.status is None


def is_of_controller(condition: Condition) -> bool:
    """Return whether this condition of a NodeOverlayIp was written by the controller; its agent writes the others."""
    return condition.type in CONTROLLER_CONDITIONS or is_ready_unknown(condition)


def parse_conditions(status: JsonObject) -> tuple[Condition, ...]:
    return tuple(Condition.parse(raw) for raw in find_objects(status, "conditions"))


def find_ready_unknown(conditions: Iterable[Condition]) -> Condition | None:
    return next((condition for condition in conditions if is_ready_unknown(condition)), None)


def find_condition(conditions: Iterable[Condition], type_: str) -> Condition | None:
    return next((condition for condition in conditions if condition.type == type_), None)


def transition(observed: Iterable[Condition], desired: Condition, now: datetime) -> Condition:
    """Return ``desired`` with the time at which its *status* last changed, regardless of reason and message."""
    before = find_condition(observed, desired.type)
    if before is not None and before.status == desired.status and before.last_transition_time is not None:
        return replace(desired, last_transition_time=before.last_transition_time)
    return replace(desired, last_transition_time=now)
