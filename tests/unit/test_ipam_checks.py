"""When the IPAM is asked about a node although its object appears settled."""

import pytest

from overlay_net.controller.caches import Caches
from overlay_net.controller.ipam_checks import IpamChecks
from overlay_net.model.api import JsonObject, Listing
from tests.unit.factories import raw_phpipam_pool, raw_pool


class Subject:
    def __init__(self) -> None:
        self.caches = Caches()
        self.enqueued: list[str] = []
        self.checks = IpamChecks(self.caches, self.enqueued.append)

    def set_address(self, address: str) -> None:
        status: JsonObject = {"ipAddr": f"{address}/24", "pool": "p1"}
        self.caches.overlays.replace(Listing(({"metadata": {"name": "n1"}, "status": status},), "1"))

    def set_records(self, *addresses: str) -> None:
        records = ({"metadata": {"name": each}, "spec": {"address": each, "node": "n1"}} for each in addresses)
        self.caches.records.replace(Listing(tuple(records), "1"))


async def test_a_request_wakes_the_worker_and_is_kept_until_an_attempt_succeeds() -> None:
    subject = Subject()
    subject.checks.request("n1")
    assert (subject.checks.needed("n1"), subject.enqueued) == (True, ["n1"])
    with pytest.raises(TimeoutError), subject.checks.attempt("n1"):
        raise TimeoutError
    assert subject.checks.needed("n1")
    with subject.checks.attempt("n1"):
        pass
    assert not subject.checks.needed("n1")


async def test_a_failed_attempt_leaves_a_request_and_does_not_wake_the_worker() -> None:
    subject = Subject()
    with pytest.raises(TimeoutError), subject.checks.attempt("n1"):
        raise TimeoutError
    assert (subject.checks.needed("n1"), subject.enqueued) == (True, [])


async def test_a_node_is_checked_while_its_records_are_not_that_of_its_address() -> None:
    subject = Subject()
    subject.set_address("192.168.100.4")
    assert subject.checks.needed("n1"), "its record is missing"
    subject.set_records("192.168.100.4", "192.168.100.5")
    assert subject.checks.needed("n1"), "there is a second record"
    subject.set_records("192.168.100.4")
    assert not subject.checks.needed("n1")


async def test_an_address_of_phpipam_needs_no_watched_record() -> None:
    subject = Subject()
    subject.caches.pools.replace(Listing((raw_phpipam_pool(raw_pool()),), "1"))
    subject.set_address("192.168.100.4")
    assert not subject.checks.needed("n1")
    subject.set_records("192.168.100.5")
    assert subject.checks.needed("n1"), "an in-cluster record of an earlier pool remains"
