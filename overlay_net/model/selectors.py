"""Label selectors: which nodes an object applies to, as metav1.LabelSelector or in the syntax of ``kubectl -l``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from overlay_net.model.api import JsonObject
from overlay_net.model.parse import find_object, find_objects, find_texts, parse_labels, parse_text

_KEY = r"(?:[a-z0-9][a-z0-9.-]*/)?[A-Za-z0-9](?:[-\w.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-\w.]*[A-Za-z0-9])?)?"
_EQUALITY = re.compile(rf"({_KEY})\s*(==?|!=)\s*({_VALUE})")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(\s*({_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)")
_EXISTENCE = re.compile(rf"(!?)\s*({_KEY})")


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Evaluate as the API server does: ``NotIn`` also matches a node without the label."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case _:
                return False


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must match; without requirements, every node is selected."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, raw: JsonObject) -> "Selector":
        equal = (
            Requirement(key, "In", (value,)) for key, value in parse_labels(find_object(raw, "matchLabels")).items()
        )
        expressions = (
            Requirement(parse_text(item.get("key")), parse_text(item.get("operator")), find_texts(item, "values"))
            for item in find_objects(raw, "matchExpressions")
        )
        return cls((*equal, *expressions))

    @classmethod
    def parse_text(cls, text: str) -> "Selector":
        """Parse ``a=b,c!=d,e in (f,g),h notin (i),j,!k``; an empty text selects every node. Raises ValueError."""
        parts = re.split(r",(?![^()]*\))", text) if text.strip() else []
        return cls(tuple(_parse_requirement(part.strip()) for part in parts))

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


EVERY_NODE = Selector()


def _parse_requirement(text: str) -> Requirement:
    if found := _EQUALITY.fullmatch(text):
        return Requirement(found[1], "NotIn" if found[2] == "!=" else "In", (found[3],))
    if found := _SET.fullmatch(text):
        values = tuple(value.strip() for value in found[3].split(","))
        return Requirement(found[1], "In" if found[2] == "in" else "NotIn", values)
    if found := _EXISTENCE.fullmatch(text):
        return Requirement(found[2], "DoesNotExist" if found[1] else "Exists")
    raise ValueError(
        "must be a label selector as in kubectl, such as kubernetes.io/os=linux,type notin (virtual-kubelet)"
    )
