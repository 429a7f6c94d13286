"""A worker node, as far as its metadata tells."""

from collections.abc import Mapping
from dataclasses import dataclass

from overlay_net.model.api import JsonObject
from overlay_net.model.names import REGION_LABELS, ZONE_LABELS
from overlay_net.model.parse import labels_of, object_of, text_of


def first_label(labels: Mapping[str, str], keys: tuple[str, ...]) -> str:
    """The value of the first of ``keys`` that is set, else an empty string."""
    return next((labels[key] for key in keys if labels.get(key)), "")


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    uid: str
    labels: Mapping[str, str]

    @classmethod
    def parse(cls, raw: JsonObject) -> "Node":
        metadata = object_of(raw, "metadata")
        return cls(
            name=text_of(metadata.get("name")),
            uid=text_of(metadata.get("uid")),
            labels=labels_of(object_of(metadata, "labels")),
        )

    @property
    def zone(self) -> str:
        return first_label(self.labels, ZONE_LABELS)

    @property
    def region(self) -> str:
        return first_label(self.labels, REGION_LABELS)
