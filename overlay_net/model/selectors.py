"""Label selectors (metav1.LabelSelector): which nodes an object applies to."""

from collections.abc import Mapping
from dataclasses import dataclass

from overlay_net.model.api import JsonObject
from overlay_net.model.parse import find_object, find_objects, find_texts, parse_labels, parse_text


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

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)
