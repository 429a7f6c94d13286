"""Plans OverlayPools from the earlier operator's phpIPAM.subnetMap (subnet ids by zone, in order)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from overlay_net.model.pool import DEFAULT_PRIORITY, Pool


@dataclass(frozen=True, slots=True)
class MappedPool:
    name: str
    zone: str
    subnet_id: int
    priority: int
    """The default priority plus the index in the zone's list."""


@dataclass(frozen=True, slots=True)
class MapPlan:
    apply: tuple[MappedPool, ...]
    delete: tuple[Pool, ...]
    """Pools of an earlier map that are not in the present one. Nodes keep their addresses from them."""


def mapped_pools(subnet_map: Mapping[str, Sequence[int]]) -> tuple[MappedPool, ...]:
    return tuple(
        MappedPool(_name(zone, subnet), zone, subnet, DEFAULT_PRIORITY + place)
        for zone, subnets in subnet_map.items()
        for place, subnet in enumerate(subnets)
    )


def plan_pools(subnet_map: Mapping[str, Sequence[int]], pools: Iterable[Pool]) -> MapPlan:
    """Plan the changes that reconcile the pools with the map; pools created by users are ignored."""
    desired = {pool.name: pool for pool in mapped_pools(subnet_map)}
    present = {pool.name: pool for pool in pools}
    return MapPlan(
        tuple(each for each in desired.values() if not _fits(each, present.get(each.name))),
        tuple(
            pool for pool in present.values() if pool.from_subnet_map and not pool.deleting and pool.name not in desired
        ),
    )


def _fits(desired: MappedPool, pool: Pool | None) -> bool:
    return (
        pool is not None
        and pool.from_subnet_map
        and pool.zones == (desired.zone,)
        and pool.priority == desired.priority
        and pool.subnet_id == desired.subnet_id
    )


def _name(zone: str, subnet: int) -> str:
    """Return a name such as ``phpipam-dal10-7``; a zone that is not a valid name is sanitised and gets a digest."""
    slug = re.sub(r"[^a-z0-9-]", "-", zone.lower()).strip("-")
    if slug != zone:
        slug = f"{slug[:40]}-{sha256(zone.encode()).hexdigest()[:8]}".lstrip("-")
    return f"phpipam-{slug}-{subnet}"
