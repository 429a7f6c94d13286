"""Responses of a Kubernetes API server before parsing: JSON objects, lists and watch events."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """A collection or one page of it, and the resourceVersion to watch from, which all pages share."""

    items: tuple[JsonObject, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. An ERROR line is not an event: the adapter raises the error that it contains."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: JsonObject


def is_older(version: str, than: str) -> bool:
    """Return whether a resourceVersion is older than another one of the same kind; False if it is not a number.

    Resource versions of a kind increase as decimal numbers (KEP-5504).
    """
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)
