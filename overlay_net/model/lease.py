"""coordination.k8s.io/v1 Lease: the record of the current leader."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from overlay_net.model.api import JsonObject
from overlay_net.model.parse import find_object, parse_int, parse_text


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Times in seconds. A lease may be taken over ``duration`` after the last observed renewal. Its holder stops
    ``renew_deadline`` after its own last renewal. ``retry_period`` is the pause between two attempts."""

    duration: float
    renew_deadline: float
    retry_period: float


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The spec of a Lease. Its times remain text, as clocks of other machines are never compared with ours."""

    holder: str = ""
    """Empty: there is no leader."""
    seconds: int = 0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0

    @classmethod
    def parse(cls, raw: JsonObject) -> "LeaseRecord":
        spec = find_object(raw, "spec")
        return cls(
            holder=parse_text(spec.get("holderIdentity")),
            seconds=parse_int(spec.get("leaseDurationSeconds")),
            acquired=parse_text(spec.get("acquireTime")),
            renewed=parse_text(spec.get("renewTime")),
            transitions=parse_int(spec.get("leaseTransitions")),
        )

    def held_by(self, identity: str, duration: float, now: datetime) -> "LeaseRecord":
        """Return the record after ``identity`` acquired or renewed the lease; an empty identity releases it."""
        text = micro_time(now)
        # Whole seconds, rounded up to at least the duration that the holder itself uses.
        seconds = math.ceil(duration)
        if identity in ("", self.holder):
            return LeaseRecord(identity, seconds, self.acquired or text, text, self.transitions)
        return LeaseRecord(identity, seconds, text, text, self.transitions + 1 if self.acquired else 0)

    def to_json(self) -> JsonObject:
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self.seconds,
            "acquireTime": self.acquired,
            "renewTime": self.renewed,
            "leaseTransitions": self.transitions,
        }


def micro_time(now: datetime) -> str:
    """A MicroTime of the API: RFC 3339 in UTC with six decimals."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
