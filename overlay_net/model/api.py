"""Responses of a Kubernetes API server before parsing: JSON objects, lists and watch events."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """One complete collection, and the resourceVersion to watch from."""

    items: tuple[JsonObject, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. An ERROR line is not an event: the adapter raises the error that it contains."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: JsonObject
