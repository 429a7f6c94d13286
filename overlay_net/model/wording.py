"""Words that messages of all layers have in common."""

from collections.abc import Sequence


def name_some(names: Sequence[str], limit: int, separator: str = ", ") -> str:
    """Return the first names, and the number of others if there are more than ``limit``: ``n1, n2, and 9 more``."""
    if len(names) <= limit:
        return separator.join(names)
    return separator.join([*names[:limit], f"and {len(names) - limit} more"])
