"""What a Kubernetes API server sends: JSON objects, listings and watch events, before a kind is parsed."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """One complete collection and the resourceVersion from which a watch continues it."""

    items: tuple[JsonObject, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. An ERROR line is no event: the adapter raises it as the error that it is."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: JsonObject
