"""Quantities of the Kubernetes API, such as ``50m`` and ``128Mi``."""

import re
from decimal import Decimal
from typing import Final

SUFFIXES: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}
PATTERN: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([eE][+-]?\d+|[A-Za-z]{0,2})")


def parse_quantity(text: str) -> Decimal:
    """Parse a quantity that is not negative. Raises ValueError.

    See https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    number, suffix = match.groups()
    if suffix in SUFFIXES:
        return Decimal(number) * SUFFIXES[suffix]
    if suffix[0] not in "eE" or len(suffix) == 1:
        raise ValueError(f"{text!r} is not a quantity: unknown suffix {suffix}")
    return Decimal(number + suffix)


def format_quantity(value: Decimal) -> str:
    """Write a quantity with the largest binary suffix that keeps it whole, or as a decimal number."""
    for suffix in ("Gi", "Mi", "Ki"):
        if value and value % SUFFIXES[suffix] == 0:
            return f"{value / SUFFIXES[suffix]:f}{suffix}"
    return f"{value.normalize():f}"
