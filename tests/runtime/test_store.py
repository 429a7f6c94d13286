"""Stores: notifications of subscribers, and the difference between an empty and an unsynced store."""

from typing import Any

from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.runtime.store import Store


def item(name: str, version: str, **more: Any) -> JsonObject:
    return {"metadata": {"name": name, "resourceVersion": version}, **more}


def make() -> tuple[Store[str], list[tuple[str, str | None, str | None]]]:
    store: Store[str] = Store(lambda raw: raw["metadata"]["resourceVersion"])
    changes: list[tuple[str, str | None, str | None]] = []
    store.subscribe(lambda name, old, new: changes.append((name, old, new)))
    return store, changes


def test_a_store_is_synced_only_after_a_complete_list() -> None:
    store, _ = make()
    assert [store.synced] == [False]
    store.apply(WatchEvent("ADDED", item("a", "1")))
    assert [store.synced] == [False], "an event is not a complete list"
    store.replace(Listing((), "5"))
    assert store.synced
    assert len(store) == 0


def test_a_relist_notifies_of_differences_only() -> None:
    store, changes = make()
    store.replace(Listing((item("a", "1"), item("b", "1"), item("c", "1")), "1"))
    changes.clear()
    store.replace(Listing((item("a", "1"), item("b", "2"), item("d", "2")), "2"))
    assert changes == [("b", "1", "2"), ("d", None, "2"), ("c", "1", None)]
    assert sorted(store.names()) == ["a", "b", "d"]


def test_events_are_applied_and_repetitions_are_not_notified() -> None:
    store, changes = make()
    for event in (
        WatchEvent("ADDED", item("a", "1")),
        WatchEvent("ADDED", item("a", "1")),
        WatchEvent("MODIFIED", item("a", "2")),
        WatchEvent("BOOKMARK", item("", "9")),
        WatchEvent("DELETED", item("a", "3")),
        WatchEvent("DELETED", item("a", "3")),
    ):
        store.apply(event)
    assert changes == [("a", None, "1"), ("a", "1", "2"), ("a", "2", None)]
    assert store.get("a") is None
