"""Tunes Python's cyclic garbage collector to run rarely, because each collection stops the whole process."""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

REPLACED: Final = 250
"""Number of replaced values, of about 60 objects each, that are collected together: 3 ms."""


def tune_gc() -> None:
    """Tune the collector; call this after all imports.

    A full collection traverses every route and delays repairs. Objects that exist at startup (modules, classes) are
    excluded from collections, and others are traversed rarely, as routes do not form cycles. A
    collection traverses up to 10,000 objects in 1 ms, and every third one up to 40,000 in 5 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 3, 3_000)


def exclude_existing() -> None:
    """Exclude all objects that exist now from collections, such as caches after their first list.

    They are freed as before when nothing refers to them. A collection of 100,000 objects takes 0.1 s.
    """
    gc.freeze()


class ReplacedValues:
    """Collects young objects each time so many values of caches were replaced.

    Python counts the objects that were created less those that were freed. So it does not notice new values that take
    the place of old ones, and traverses all of them at once at last: after reports of 5,000 nodes, this takes 0.1 s.
    """

    def __init__(self) -> None:
        self._count = 0

    def changed(self, _: str, old: object, new: object) -> None:
        """A subscriber of a store."""
        if old is None or new is None:
            return
        self._count += 1
        if self._count >= REPLACED:
            self._count = 0
            gc.collect(1)


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """Pause collections during a step that creates many thousands of values without cycles.

    Otherwise each collection of 10,000 new objects would also traverse the containers of 100,000 young ones: 20 ms. At
    the end all existing objects move to the oldest generation, including those excluded at start. That generation is
    collected only after tens of millions of new objects, so garbage with cycles, such as messages of pyroute2, is
    collected before.
    """
    gc.disable()
    gc.collect(1)
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()
        gc.enable()
