"""Server-side apply (KEP-555): who manages which field of one object, and what an apply leaves of it.

A field is a path into the object. An element of a keyed list is a field of its own by the value of its key, an element
of a set by itself; any other list is one field as a whole, and so are atomic maps (x-kubernetes-list-type and
x-kubernetes-map-type of the definitions).
"""

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any

from overlay_net.model.api import JsonObject

Path = tuple[str, ...]

LIST_KEYS: dict[Path, str] = {("status", "conditions"): "type"}
ATOMIC_MAPS: frozenset[Path] = frozenset({("spec", "node"), ("status", "observedNode"), ("status", "observedSlices")})
SETS: frozenset[Path] = frozenset({("metadata", "finalizers")})


def fields(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each field below ``value`` and its value; an empty map is a field, too."""
    if isinstance(value, dict) and path not in ATOMIC_MAPS and (value or not path):
        for key, item in value.items():
            yield from fields(item, (*path, key))
    elif isinstance(value, list) and path in SETS:
        yield from (((*path, item), item) for item in value)
    elif isinstance(value, list) and path in LIST_KEYS:
        for item in value:
            yield from fields(item, (*path, item[LIST_KEYS[path]]))
    else:
        yield path, value


def rebuilt(found: dict[Path, Any]) -> JsonObject:
    """The object of these fields."""
    tree: dict[str, Any] = {}
    for path, value in found.items():
        parent = tree
        for part in path[:-1]:
            parent = parent.setdefault(part, {})
        if value == {}:
            parent.setdefault(path[-1], {})
        else:
            parent[path[-1]] = copy.deepcopy(value)
    for listed in (*SETS, *LIST_KEYS):
        parent = tree
        for part in listed[:-1]:
            parent = parent.get(part, {})
        if listed[-1] in parent:
            parent[listed[-1]] = _list(parent[listed[-1]])
    return tree


def _list(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)


def merged(present: Any, patch: Any) -> Any:
    """``present`` after a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(present) if isinstance(present, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class FieldManagers:
    """Of one object; no manager has the ``IDENTITY`` fields."""

    IDENTITY = frozenset({("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")})

    def __init__(self) -> None:
        self._managed: dict[str, frozenset[Path]] = {}

    def encode(self) -> list[JsonObject]:
        """metadata.managedFields; the name of a manager that applies has the subresource after a slash."""
        return [
            {
                "manager": name.partition("/")[0],
                "operation": "Apply" if "/" in name else "Update",
                "fieldsType": "FieldsV1",
                "fieldsV1": _encode_fields(paths),
            }
            for name, paths in self._managed.items()
        ]

    def updated(self, manager: str, present: JsonObject, desired: JsonObject) -> None:
        """A write other than an apply: its manager becomes the only one of each field that it changes."""
        before, after = dict(fields(present)), dict(fields(desired))
        changed = {path for path, value in after.items() if path not in before or before[path] != value}
        changed -= self.IDENTITY
        self._managed = {name: (paths - changed) & after.keys() for name, paths in self._managed.items()}
        self._managed[manager] = self._managed.get(manager, frozenset()) | changed

    def applied(self, manager: str, present: JsonObject, desired: JsonObject) -> JsonObject:
        """``present`` after a forced apply, without fields that it no longer lists, unless another manager has them."""
        before, after = dict(fields(present)), dict(fields(desired))
        mine = frozenset(after) - self.IDENTITY
        given_up = self._managed.get(manager, frozenset()) - mine
        others = [paths for name, paths in self._managed.items() if name != manager]
        left = {
            path: value
            for path, value in before.items()
            if path not in given_up or any(path in each for each in others)
        }
        # A field that becomes a value without fields replaces what was below it; an empty map leaves that alone.
        leaves = [each for each in mine if after[each] != {}]
        left = {path: value for path, value in left.items() if not any(_is_below(path, each) for each in leaves)}
        changed = {path for path in mine if path not in before or before[path] != after[path]}
        self._managed = {name: paths - (changed if name != manager else set()) for name, paths in self._managed.items()}
        self._managed[manager] = mine
        present_now = {**left, **after}.keys()
        self._managed = {name: paths & present_now for name, paths in self._managed.items()}
        return rebuilt(left | after)


def _encode_fields(paths: Iterable[Path]) -> JsonObject:
    """FieldsV1 of these fields: https://kubernetes.io/docs/reference/using-api/server-side-apply/."""
    tree: JsonObject = {}
    for path in paths:
        below = tree
        for length, part in enumerate(path):
            key = f"f:{part}"
            if path[:length] in SETS:
                key = f"v:{json.dumps(part)}"
            elif path[:length] in LIST_KEYS:
                key = f"k:{json.dumps({LIST_KEYS[path[:length]]: part})}"
            below = below.setdefault(key, {})
    return tree


def _is_below(path: Path, field: Path) -> bool:
    return len(path) > len(field) and path[: len(field)] == field
