"""When the garbage collector runs."""

import gc
import weakref
from typing import Any

from overlay_net.model.api import JsonObject
from overlay_net.runtime.gc_tuning import REPLACED, ReplacedValues, paused_gc
from overlay_net.runtime.store import Store


class Value:
    def __init__(self, raw: JsonObject) -> None:
        self.version = raw["metadata"]["resourceVersion"]


def report(name: int, version: int) -> dict[str, Any]:
    return {"metadata": {"name": str(name), "resourceVersion": str(version)}}


def test_values_that_replace_others_do_not_pile_up_for_one_long_collection() -> None:
    store: Store[Value] = Store(Value)
    store.subscribe(ReplacedValues().changed)
    for name in range(4 * REPLACED):
        store.set(report(name, 1))
    gc.collect()
    for name in range(4 * REPLACED):
        store.set(report(name, 2))
    young = sum(isinstance(each, Value) for generation in (0, 1) for each in gc.get_objects(generation))
    assert young < REPLACED
    assert len(store) == 4 * REPLACED


def test_garbage_with_cycles_does_not_become_old_during_a_pause() -> None:
    value = Value(report(1, 1))
    value.version = value
    old = weakref.ref(value)
    del value
    with paused_gc():
        assert old() is None
