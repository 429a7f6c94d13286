"""When Python looks for garbage that refers to itself: seldom, as every look stops everything else for its time."""

import contextlib
import gc
from collections.abc import Iterator


def tune_gc() -> None:
    """To be called once all is imported.

    A full collection walks through every route and stops a repair for its time: what is there at start (modules,
    classes) is left out of it, and the rest is looked at rarely. Values of routes hold no cycles. A usual look
    is at 10,000 objects at the most, and one in three at 40,000: 1 and 5 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 3, 3_000)


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """For a step that makes many thousands of values, none of which refers to itself: it is not looked through them.

    Each look at ten thousand new values would go through the lists of a hundred thousand that are new, too: 20 ms. So
    all that is there at the end counts as old at once, also what was left out at start: the old is looked through
    when tens of millions of values have come and stayed.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()
        gc.enable()
