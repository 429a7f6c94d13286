"""Fields of an applied object that stay because another field manager has them as well.

Server-side apply (KEP-555) removes a field that a manager omits only if no other manager has it. So a field outlives
its meaning if another client has written it, too: ``kubectl``, a restore, the earlier operator, or our own create,
which counts as another manager than our apply.
"""

import itertools
import json
from collections.abc import Collection, Iterator
from typing import Any, TypeAlias

from overlay_net.model.api import JsonObject
from overlay_net.model.parse import find_object, find_objects

Path: TypeAlias = tuple[str, ...]
"""From the root of the object to a field. An element of a list is named by its ``type``, or by itself in a set."""


def find_leftovers(metadata: JsonObject, manager: str, body: JsonObject, owned: Collection[Path]) -> frozenset[Path]:
    """Return the fields below ``owned`` that other managers keep although ``manager`` has just applied ``body``.

    ``metadata`` is that of the response to the apply; its managedFields name every field that anybody manages.
    """
    others = (
        entry
        for entry in find_objects(metadata, "managedFields")
        if (entry.get("manager"), entry.get("operation")) != (manager, "Apply")
    )
    fields = {path for entry in others for path in _parse_fields(find_object(entry, "fieldsV1"), ())}
    return frozenset(cut for path in fields if (cut := _cut(path, owned, body)))


def encode_removal(leftovers: Collection[Path], present: JsonObject) -> JsonObject:
    """Return the merge patch (RFC 7386) that removes these fields; it replaces the lists that lose elements."""
    patch: JsonObject = {}
    for path in leftovers:
        target, found = patch, present
        for part in path[:-1]:
            below = found.get(part)
            if isinstance(below, list):
                target[part] = [each for each in target.get(part, below) if _element_name(each) != path[-1]]
                break
            target, found = target.setdefault(part, {}), below if isinstance(below, dict) else {}
        else:
            target[path[-1]] = None
    return patch


def _parse_fields(fields: JsonObject, path: Path) -> Iterator[Path]:
    """Return the paths of the leaves of a FieldsV1, and of the elements of lists."""
    for key, below in fields.items():
        kind, _, name = key.partition(":")
        if kind == "f" and any(each != "." for each in below):
            yield from _parse_fields(below, (*path, name))
        elif kind == "f":
            yield (*path, name)
        elif kind in ("k", "v"):
            # What the element consists of makes no difference, as it is removed as a whole.
            yield (*path, _element_name(json.loads(name)))


def _element_name(element: Any) -> str:
    return str(element.get("type")) if isinstance(element, dict) else str(element)


def _cut(path: Path, owned: Collection[Path], body: JsonObject) -> Path:
    """Return the topmost field on the way to ``path`` that is owned and absent from ``body``; empty: none."""
    prefixes = [path[:length] for length in range(1, len(path) + 1)]
    below_owned = itertools.dropwhile(lambda prefix: prefix not in owned, prefixes)
    return next((prefix for prefix in below_owned if not _has(body, prefix)), ())


def _has(value: Any, path: Path) -> bool:
    for part in path:
        if isinstance(value, list):
            return part in map(_element_name, value)
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True
