"""Values of arguments: each function parses one, and raises ValueError with a message for users."""

import re
from typing import Final

from overlay_net.model.selectors import Selector
from overlay_net.settings.durations import parse_duration

_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
Target = tuple[str, int]
"""Host and port of a TCP server."""


def parse_deployment(text: str) -> tuple[str, str]:
    """Parse ``NAMESPACE/NAME``."""
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise ValueError(f"{text!r}: a namespace and a name are required, such as overlay-net/overlay-net-controller")
    return namespace, name


def parse_target(text: str) -> Target:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: a host and a port are required, such as 192.168.0.10:443 or [fd00::1]:443")
    return host.strip("[]"), int(port)


def parse_object_name(text: str) -> str:
    """Parse the name of a Node or of another object: a DNS subdomain (RFC 1123)."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r}: must be the name of an object, such as worker-1.example.com")
    return text


def parse_selector(text: str) -> Selector:
    try:
        return Selector.parse_text(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def parse_seconds(text: str) -> float:
    """Parse a duration such as ``60s`` or ``4m`` into seconds."""
    try:
        value = parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    assert isinstance(value, (int, float))
    return float(value)
