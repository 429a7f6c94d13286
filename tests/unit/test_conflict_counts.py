"""How many addresses were given up because of one host is known without going through all nodes."""

from collections.abc import Iterator
from typing import Any

import pytest

from overlay_net.controller.caches import Caches
from overlay_net.model.api import JsonObject, Listing, WatchEvent

ROUTER, OTHER = "02:00:00:00:01:00", "02:00:00:00:02:00"


def raw_overlay(name: str, version: int, mac: str = "", conflicts: int = 0) -> JsonObject:
    status: dict[str, Any] = {"lastConflictMAC": mac, "consecutiveConflicts": conflicts} if mac else {}
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}, "status": status}


def never() -> Iterator[Any]:
    raise AssertionError("goes through all nodes")


def test_the_count_follows_the_objects_and_takes_one_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    caches = Caches()
    listed = (raw_overlay("n1", 1, ROUTER, 1), raw_overlay("n2", 1, ROUTER, 1), raw_overlay("n3", 1, OTHER, 1))
    caches.overlays.replace(Listing((*listed, raw_overlay("n4", 1)), "1"))
    monkeypatch.setattr(caches.overlays, "values", never)

    def counts() -> tuple[int, int]:
        return caches.count_conflicts_with(ROUTER), caches.count_conflicts_with(OTHER)

    assert counts() == (2, 1)
    caches.overlays.apply(WatchEvent("MODIFIED", raw_overlay("n1", 2, ROUTER, 3)))
    assert counts() == (4, 1)
    caches.overlays.apply(WatchEvent("MODIFIED", raw_overlay("n1", 3, OTHER, 1)))
    assert counts() == (1, 2)
    caches.overlays.apply(WatchEvent("MODIFIED", raw_overlay("n3", 2)))
    caches.overlays.apply(WatchEvent("DELETED", raw_overlay("n2", 2)))
    assert counts() == (0, 1)
