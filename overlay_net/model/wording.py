"""Words that messages of all layers have in common."""

from collections.abc import Sequence


def name_some(names: Sequence[str], limit: int, separator: str = ", ", total: int | None = None) -> str:
    """Return the first names, and the number of others if there are more than ``limit``: ``n1, n2, and 9 more``.

    ``total`` is the number of all, if ``names`` are only the first of them.
    """
    named = names[:limit]
    others = (len(names) if total is None else total) - len(named)
    return separator.join([*named, f"and {others} more"] if others > 0 else named)


def count(number: int, noun: str) -> str:
    """Return ``1 node`` or ``3 nodes``; the plural of ``noun`` ends with an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def routes_in_place(number: int) -> str:
    return f"{count(number, 'route')} {'is' if number == 1 else 'are'} in place"
