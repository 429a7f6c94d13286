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


def test_an_equal_value_of_another_version_is_no_change() -> None:
    store: Store[str] = Store(lambda raw: raw["zone"])
    changes: list[tuple[str, str | None, str | None]] = []
    store.subscribe(lambda name, old, new: changes.append((name, old, new)))
    store.replace(Listing((item("a", "1", zone="z1"),), "1"))
    store.apply(WatchEvent("MODIFIED", item("a", "2", zone="z1")))
    assert changes == [("a", None, "z1")]
    store.apply(WatchEvent("MODIFIED", item("a", "3", zone="z2")))
    assert changes[1:] == [("a", "z1", "z2")]


def test_the_response_to_a_write_is_there_before_its_event_and_notified_once() -> None:
    store, changes = make()
    store.replace(Listing((), "5"))
    store.add_written(item("a", "7"))
    assert store.get("a") == "7"
    for event in (WatchEvent("ADDED", item("b", "6")), WatchEvent("ADDED", item("a", "7"))):
        store.apply(event)
    assert changes == [("a", None, "7"), ("b", None, "6")]


def test_events_from_before_a_write_do_not_take_it_back() -> None:
    """The object was written, deleted and created again, and the watch is late."""
    store, changes = make()
    store.replace(Listing((item("a", "1"),), "1"))
    store.add_written(item("a", "9"))
    for event in (WatchEvent("MODIFIED", item("a", "2")), WatchEvent("DELETED", item("a", "3"))):
        store.apply(event)
    assert store.get("a") == "9"
    store.apply(WatchEvent("DELETED", item("a", "10")))
    assert changes == [("a", None, "1"), ("a", "1", "9"), ("a", "9", None)]


def test_a_response_that_comes_after_the_event_of_a_later_change_is_ignored() -> None:
    store, _ = make()
    store.replace(Listing((), "1"))
    for event in (WatchEvent("ADDED", item("a", "2")), WatchEvent("DELETED", item("a", "3"))):
        store.apply(event)
    store.add_written(item("a", "2"))
    assert store.get("a") is None
    store.replace(Listing((), "8"))
    store.add_written(item("a", "7"))
    assert store.get("a") is None, "the list is newer and does not have it"


def test_a_response_from_before_the_version_of_an_unfinished_list_is_ignored() -> None:
    store, _ = make()
    store.replace(Listing((item("a", "1"),), "1"))
    store.set(item("a", "5"))
    store.add_written(item("a", "3"))
    store.replace_written("a", "3", "written")
    assert store.get("a") == "5"
    store.replace_written("a", "6", "written")
    assert store.get("a") == "written"
