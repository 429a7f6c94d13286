"""Stores: what they tell their subscribers, and that a store that knows nothing says so."""

from typing import Any

from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.runtime.store import Store


def item(name: str, version: str, **more: Any) -> JsonObject:
    return {"metadata": {"name": name, "resourceVersion": version}, **more}


def make() -> tuple[Store[str], list[tuple[str, str | None, str | None]]]:
    store: Store[str] = Store(lambda raw: raw["metadata"]["resourceVersion"])
    told: list[tuple[str, str | None, str | None]] = []
    store.subscribe(lambda name, old, new: told.append((name, old, new)))
    return store, told


def test_an_unknown_store_and_an_empty_one_are_not_the_same() -> None:
    store, _ = make()
    assert [store.synced] == [False]
    store.apply(WatchEvent("ADDED", item("a", "1")))
    assert [store.synced] == [False], "an event is no complete list"
    store.replace(Listing((), "5"))
    assert store.synced
    assert len(store) == 0


def test_a_relist_tells_only_differences() -> None:
    store, told = make()
    store.replace(Listing((item("a", "1"), item("b", "1"), item("c", "1")), "1"))
    told.clear()
    store.replace(Listing((item("a", "1"), item("b", "2"), item("d", "2")), "2"))
    assert told == [("b", "1", "2"), ("d", None, "2"), ("c", "1", None)]
    assert sorted(store.names()) == ["a", "b", "d"]


def test_events_are_applied_and_repetitions_are_silent() -> None:
    store, told = make()
    for event in (
        WatchEvent("ADDED", item("a", "1")),
        WatchEvent("ADDED", item("a", "1")),
        WatchEvent("MODIFIED", item("a", "2")),
        WatchEvent("BOOKMARK", item("", "9")),
        WatchEvent("DELETED", item("a", "3")),
        WatchEvent("DELETED", item("a", "3")),
    ):
        store.apply(event)
    assert told == [("a", None, "1"), ("a", "1", "2"), ("a", "2", None)]
    assert store.get("a") is None
