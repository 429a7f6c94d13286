"""The in-cluster IPAM: one OverlayAddress object for each address in use.

The object's *name* is the address, so the API server's uniqueness of names is the allocation lock: the process that
creates the object owns the address, however many processes try. State in memory only improves the first guess;
correctness does not depend on it.
"""

from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_interface
from typing import Final, Protocol

from overlay_net.domain.allocation.free_addresses import FreeAddresses
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.errors import AddressTaken, AlreadyExists, Conflict, Exhausted, NotFound, PoolUnusable
from overlay_net.model.ipam import (
    CLUSTER_IPAM,
    QUARANTINE,
    AddressRecord,
    Inventory,
    Owner,
    PoolFacts,
    PoolUsage,
    Reservation,
)
from overlay_net.model.lease import micro_time
from overlay_net.model.names import NODE_LABEL, OVERLAY_ADDRESSES, TAKEN_OVER_ANNOTATION, Resource, label_value
from overlay_net.model.net import IpAddress
from overlay_net.model.parse import encode_time
from overlay_net.model.pool import Pool

PAGE: Final = 250
"""Number of objects of 1 kB in a page; a request costs as much as decoding 30 of them."""


class ObjectStore(Protocol):
    """The verbs of the Kubernetes API that allocation needs; errors are those of model.errors."""

    async def get(self, resource: Resource, name: str) -> JsonObject: ...
    async def list(self, resource: Resource, *, label_selector: str | None = None) -> Listing: ...
    def pages(self, resource: Resource, *, page: int) -> AsyncGenerator[Listing, None]: ...
    async def create(self, resource: Resource, body: JsonObject) -> JsonObject: ...
    async def merge_patch(self, resource: Resource, name: str, body: JsonObject) -> JsonObject: ...
    async def delete(
        self, resource: Resource, name: str, *, uid: str | None = None, resource_version: str | None = None
    ) -> None: ...


class KnownRecords(Protocol):
    """The addresses in use and their records, as the watches have reported them; it may be incomplete."""

    def find_records(self, node: str) -> Iterable[AddressRecord]:
        """Return the records of all nodes that have had this name."""
        ...

    def free_in(self, pool: Pool) -> FreeAddresses:
        """Return the free addresses of a pool. Raises ValueError if its spec is invalid."""
        ...

    def add_written(self, raw: JsonObject) -> None:
        """Add a record that this process has written, ahead of the watch."""
        ...


def object_name(address: IpAddress) -> str:
    """``192.168.100.4``; an IPv6 address as its eight groups joined by ``-``, since names must not have colons."""
    return str(address) if isinstance(address, IPv4Address) else address.exploded.replace(":", "-")


class ClusterIpam:
    """Reservations as OverlayAddress objects of this cluster.

    ``find_pool`` returns the pool with a name, for the prefix length of its addresses.
    """

    name = CLUSTER_IPAM

    def __init__(
        self,
        api: ObjectStore,
        cluster: str,
        known: KnownRecords,
        find_pool: Callable[[str], Pool | None],
    ) -> None:
        self._api = api
        self._cluster = cluster
        self._known = known
        self._find_pool = find_pool
        # Addresses whose object another worker of this process is creating, to avoid collisions.
        self._in_flight: set[IpAddress] = set()

    async def find(
        self, owner: Owner, known: IpAddress | None = None, *, cached: bool = False
    ) -> tuple[Reservation, ...]:
        """Return every reservation of a node with this name, including those of earlier nodes.

        A consistent read, unless ``cached``: then without the records that other processes have just written.
        """
        if cached:
            return tuple(map(self._reservation, self._known.find_records(owner.node)))
        listing = await self._api.list(OVERLAY_ADDRESSES, label_selector=f"{NODE_LABEL}={label_value(owner.node)}")
        records = map(AddressRecord.parse, listing.items)
        return tuple(self._reservation(each) for each in records if each.node == owner.node)

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        """Return every record, including those of deleted pools."""
        pages = self._api.pages(OVERLAY_ADDRESSES, page=PAGE)
        reservations = [self._reservation(AddressRecord.parse(item)) async for page in pages for item in page.items]
        return Inventory(tuple(reservations), frozenset(pool.name for pool in pools if pool.ipam == self.name))

    async def reserve(
        self, owner: Owner, pool: Pool, requested: IpAddress | None = None, *, adopt: bool = False
    ) -> Reservation:
        """Reserve ``requested``, or the lowest free address of ``pool``.

        Raises AddressTaken (``requested`` has another owner) and Exhausted.
        """
        if requested is not None:
            return await self._create(owner, pool, requested) or await self._adopt(owner, pool, requested)
        free, refused = self._known.free_in(pool), set[IpAddress]()
        while (address := free.lowest(self._in_flight | refused)) is not None:
            reservation = await self._create(owner, pool, address)
            if reservation is not None:
                return reservation
            refused.add(address)
        raise Exhausted(f"no free address in {pool.name}")

    async def release(self, reservation: Reservation) -> None:
        """Delete exactly this record. Does nothing if it is gone or was replaced by another one.

        Raises Conflict if the record was written since it was read: its owner may need it again.
        """
        name = object_name(reservation.address.ip)
        try:
            await self._api.delete(
                OVERLAY_ADDRESSES, name, uid=reservation.record, resource_version=reservation.version
            )
        except NotFound:
            return
        except Conflict:
            if await self._exists(name, reservation.record):
                raise

    async def quarantine(self, reservation: Reservation, until: datetime) -> None:
        """Set the owner of the record to QUARANTINE. Raises Conflict if it was written since it was read."""
        name = object_name(reservation.address.ip)
        change = {
            "metadata": {"resourceVersion": reservation.version, "labels": {NODE_LABEL: QUARANTINE}},
            "spec": {"node": QUARANTINE, "nodeUID": encode_time(until)},
        }
        try:
            await self._api.merge_patch(OVERLAY_ADDRESSES, name, change)
        except NotFound:
            return

    async def _exists(self, name: str, uid: str) -> bool:
        try:
            return AddressRecord.parse(await self._api.get(OVERLAY_ADDRESSES, name)).uid == uid
        except NotFound:
            return False

    async def inspect_pool(self, pool: Pool) -> PoolFacts:
        if pool.problem or pool.cidr is None or pool.gateway is None:
            raise PoolUnusable("Invalid", pool.problem)
        known = self._known.free_in(pool)
        usage = PoolUsage(used=known.used, free=known.total - known.used, total=known.total)
        return PoolFacts(pool.cidr, pool.gateway, usage)

    async def _create(self, owner: Owner, pool: Pool, address: IpAddress) -> Reservation | None:
        """Create a record. Returns the reservation, or None if the address is in use."""
        body = OVERLAY_ADDRESSES.manifest(
            object_name(address),
            labels={NODE_LABEL: label_value(owner.node)},
            spec={"address": str(address), "pool": pool.name, "node": owner.node, "nodeUID": owner.uid},
        )
        self._in_flight.add(address)
        try:
            raw = await self._api.create(OVERLAY_ADDRESSES, body)
            # Before another worker can choose the address, which the watch may report only later.
            self._known.add_written(raw)
            return self._reservation(AddressRecord.parse(raw))
        except AlreadyExists:
            return None
        finally:
            self._in_flight.discard(address)

    async def _adopt(self, owner: Owner, pool: Pool, address: IpAddress) -> Reservation:
        """Take over a record of the same node, or of an earlier node with its name.

        The record is always written: its new resourceVersion makes the API server reject a release by a controller that
        decided it earlier and was then paused. Raises AddressTaken for the record of any other owner,
        and Conflict if the record is released or written at the same time.
        """
        name = object_name(address)
        try:
            found = AddressRecord.parse(await self._api.get(OVERLAY_ADDRESSES, name))
            if found.node != owner.node or found.deleting:
                raise AddressTaken(f"{address} belongs to node {found.node}")
            change = {
                "metadata": {
                    "resourceVersion": found.resource_version,
                    "labels": {NODE_LABEL: label_value(owner.node)},
                    "annotations": {TAKEN_OVER_ANNOTATION: micro_time(datetime.now(UTC))},
                },
                # The pool may have another name than when the address was reserved.
                "spec": {"nodeUID": owner.uid, "pool": pool.name},
            }
            raw = await self._api.merge_patch(OVERLAY_ADDRESSES, name, change)
            self._known.add_written(raw)
            return self._reservation(AddressRecord.parse(raw))
        except NotFound:
            raise Conflict(f"{address} has just been released") from None

    def _reservation(self, record: AddressRecord) -> Reservation:
        address = record.address
        assert address is not None, "the schema requires an address that matches the name"
        pool = self._find_pool(record.pool)
        prefix = pool.cidr.prefixlen if pool and pool.cidr and address in pool.cidr else address.max_prefixlen
        owner = Owner(self._cluster, record.node, record.node_uid)
        return Reservation(
            ip_interface((address, prefix)),
            record.pool,
            owner,
            record.uid,
            version=record.resource_version,
            ipam=self.name,
        )
