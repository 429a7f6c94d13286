"""When Python looks for garbage that refers to itself: seldom, as every look stops everything else for its time."""

import gc


def collect_seldom() -> None:
    """To be called once all is imported.

    A full collection walks through every route and stops a repair for its time: what is there at start (modules,
    classes) is left out of it, and the rest is looked at rarely. Values of routes hold no cycles. A usual look
    is at 10,000 objects at the most, and one in three at 40,000: 1 and 5 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 3, 3_000)
