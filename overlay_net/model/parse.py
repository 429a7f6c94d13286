"""Parses JSON values of the API into typed values; every function returns None or a default for an invalid value.

Schemas reject invalid values, but objects may have been stored before there was a schema: an invalid field must cause a
condition of its object, never a crash.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from overlay_net.model.api import JsonObject
from overlay_net.model.net import IpAddress, IpInterface, IpNetwork


def parse_address(value: object) -> IpAddress | None:
    try:
        return ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def parse_interface(value: object) -> IpInterface | None:
    """Parse e.g. ``192.168.100.4/24``; a prefix length is required."""
    try:
        return ip_interface(value) if isinstance(value, str) and "/" in value else None
    except ValueError:
        return None


def parse_network(value: object) -> IpNetwork | None:
    """Parse a subnet without host bits, e.g. ``10.1.0.0/16``."""
    try:
        return ip_network(value) if isinstance(value, str) else None
    except ValueError:
        return None


def find_name(raw: JsonObject) -> str:
    """Return the name of an object; empty if it has none."""
    return parse_text(find_object(raw, "metadata").get("name"))


def find_version(raw: JsonObject) -> str:
    """Return the resourceVersion of an object or a list; empty if it has none."""
    return parse_text(find_object(raw, "metadata").get("resourceVersion"))


def parse_time(value: object) -> datetime | None:
    """Parse an RFC 3339 time with a time zone, as written by the API."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC) if moment else None


def keep_whole_seconds(value: object, *fields: str) -> None:
    """Truncate times in fields of a frozen dataclass to whole seconds, the resolution of a metav1.Time.

    A value is then equal to the one that is read after it was written.
    """
    for field in fields:
        moment = getattr(value, field)
        if moment is not None and moment.microsecond:
            object.__setattr__(value, field, moment.replace(microsecond=0))


def keep_unicode(value: object, field: str) -> None:
    """Replace what is not Unicode in a text of a frozen dataclass, as the API server does.

    JSON of other systems may contain surrogates without their pair (RFC 8259, section 8.2).
    """
    text = getattr(value, field)
    if not text.isascii():
        object.__setattr__(value, field, text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def encode_time(moment: datetime) -> str:
    """Encode a metav1.Time: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_int(value: object, default: int = 0) -> int:
    return value if isinstance(value, int) else default


def parse_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def find_object(parent: Mapping[str, Any], *path: str) -> JsonObject:
    """Return the JSON object at ``path`` below ``parent``; empty if it is absent or not an object."""
    current: Any = parent
    for part in path:
        current = current.get(part) if isinstance(current, Mapping) else None
    return dict(current) if isinstance(current, Mapping) else {}


def find_objects(parent: Mapping[str, Any], key: str) -> Sequence[JsonObject]:
    """Return the list of JSON objects under ``key``; other elements are skipped."""
    value = parent.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def find_texts(parent: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = parent.get(key)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def parse_labels(value: JsonObject) -> dict[str, str]:
    return {key: text for key, text in value.items() if isinstance(text, str)}


def find_address(parent: Mapping[str, Any], key: str) -> IpAddress | None:
    return parse_address(parent.get(key))
