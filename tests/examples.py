"""How many examples a property test tries."""

from hypothesis import settings

DEFAULT = 100
"""Examples of a test without a number of its own, outside the profile `fast`."""


def examples(number: int) -> int:
    """``number``, reduced in the same proportion as the loaded Hypothesis profile reduces the default."""
    return number * settings.default.max_examples // DEFAULT if settings.default else number
