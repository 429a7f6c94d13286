"""OverlayPool and its usage -> OverlayPool.status."""

from datetime import datetime

from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import READY, Condition, transition
from overlay_net.model.ipam import PoolUsage
from overlay_net.model.pool import Pool


def pool_status(pool: Pool, usage: PoolUsage | None, now: datetime) -> JsonObject:
    """The whole status; ``usage`` is None for a pool from which no address can come."""
    status: JsonObject = {"observedGeneration": pool.generation}
    if usage is None:
        condition = Condition(READY, False, "Invalid", pool.problem, pool.generation)
    else:
        status |= {"cidr": str(pool.cidr), "gateway": str(pool.gateway)}
        status |= {"used": usage.used, "free": usage.free, "total": usage.total}
        condition = (
            Condition(READY, False, "Exhausted", f"all {usage.total} addresses are in use", pool.generation)
            if usage.free <= 0
            else Condition(READY, True, "Ready", "addresses are free", pool.generation)
        )
    status["conditions"] = [transition(pool.conditions, condition, now).to_json()]
    return status
