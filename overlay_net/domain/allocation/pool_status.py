"""Computes OverlayPool.status from the IPAM's facts about the pool."""

from dataclasses import replace
from datetime import datetime

from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import READY, Condition, transition
from overlay_net.model.ipam import PoolFacts
from overlay_net.model.pool import Pool

MAX_COUNT = 2**53 - 1
"""A larger total of an IPv6 pool is capped, as JSON numbers are exact only up to this one (RFC 8259, section 6)."""


def with_consistency(status: JsonObject, pool: Pool, conflict: Condition | None, now: datetime) -> JsonObject:
    """Add the condition ``Consistent`` of a pool that contradicts another one; it is absent otherwise."""
    if conflict is None:
        return status
    found = transition(pool.conditions, replace(conflict, observed_generation=pool.generation), now)
    return status | {"conditions": [*status["conditions"], found.to_json()]}


def pool_status(pool: Pool, facts: PoolFacts, now: datetime, failure: tuple[str, str] | None = None) -> JsonObject:
    """Return the status of a pool that was read; ``failure`` is why no reservations can be made, reason and message."""
    total = min(facts.usage.total, MAX_COUNT)
    used = min(facts.usage.used, total)
    free = min(facts.usage.free, total - used)
    status: JsonObject = {"cidr": str(facts.cidr), "gateway": str(facts.gateway)}
    status |= {"used": used, "free": free, "total": total}
    if failure is not None:
        return _with(status, pool, now, Condition(READY, False, *failure))
    if facts.marked_full:
        return _with(status, pool, now, Condition(READY, False, "MarkedFull", facts.marked_full))
    if free <= 0:
        return _with(status, pool, now, Condition(READY, False, "Exhausted", f"no free address; total: {total}"))
    return _with(status, pool, now, Condition(READY, True, "Ready", "addresses are free"))


def unusable_status(pool: Pool, reason: str, message: str, now: datetime) -> JsonObject:
    """Return the status of a pool that cannot provide addresses."""
    return _with({}, pool, now, Condition(READY, False, reason, message))


def unknown_status(pool: Pool, reason: str, message: str, now: datetime) -> JsonObject:
    """Return the status of a pool that could not be read; the last known facts remain."""
    keys = ("cidr", "gateway", "used", "free", "total")
    known: JsonObject = {key: pool.status[key] for key in keys if key in pool.status}
    return _with(known, pool, now, Condition(READY, False, reason, message))


def _with(status: JsonObject, pool: Pool, now: datetime, condition: Condition) -> JsonObject:
    placed = Condition(condition.type, condition.status, condition.reason, condition.message, pool.generation)
    ready = transition(pool.conditions, placed, now).to_json()
    return status | {"observedGeneration": pool.generation, "conditions": [ready]}
