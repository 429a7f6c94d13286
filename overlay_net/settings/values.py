"""The types of single settings: what is allowed, in the words that an error shows."""

import re
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
)

from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.parse import parse_address as address_of
from overlay_net.model.parse import parse_network as network_of

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")


def parse_duration(value: object) -> object:
    """``90s``, ``1h30m``, ``250ms`` as Go and Kubernetes write them; a plain number is seconds."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h|d)", value))
    if isinstance(value, timedelta) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    try:
        return float(str(value))
    except ValueError:
        raise ValueError("a duration such as 30s, 10m or 1h30m") from None


def parse_bind(value: str) -> str:
    """``:8080``, ``127.0.0.1:8080`` or ``[::1]:8080``."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError("an address and port such as :8080, 127.0.0.1:8080 or [::1]:8080")
    return value


def parse_link_name(value: str) -> str:
    """A network interface name as the kernel accepts it (dev_valid_name in net/core/dev.c)."""
    if not 0 < len(value) < 16 or value in {".", ".."} or re.search(r"[/:\s]", value):
        raise ValueError("an interface name of 1 to 15 characters without slash, colon or blank")
    return value


def parse_network(value: object) -> object:
    """A subnet without host bits."""
    network = network_of(value) if isinstance(value, str) else value
    if not isinstance(network, IPv4Network | IPv6Network):
        raise ValueError("a subnet without host bits, such as 10.0.0.0/8")
    return network


def parse_address(value: object) -> object:
    """An address; an empty text is none."""
    found = address_of(value) if isinstance(value, str) else value
    if value not in ("", None) and not isinstance(found, IPv4Address | IPv6Address):
        raise ValueError("an address, such as 10.176.162.151")
    return found


def parse_directory(value: object) -> object:
    """An absolute path; an empty text is none."""
    if value in ("", None):
        return None
    if not str(value).startswith("/"):
        raise ValueError("an absolute path, or an empty text for none")
    return Path(str(value))


def parse_subnet(value: str) -> str:
    """A subnet without host bits."""
    if network_of(value) is None:
        raise ValueError("a subnet without host bits, such as 10.1.0.0/16")
    return value


def parse_url(value: str) -> str:
    """An http(s) URL of a server, with or without a path; no query, no credentials in it."""
    parts = urlsplit(value)
    try:
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("a URL such as https://phpipam.example.com, without user, password and query")
    return value


def parse_taint_key(value: str) -> str:
    """A key as labels and taints have it; an empty text is none."""
    if value and not re.fullmatch(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("the key of a taint, such as overlay-net.example.com/not-ready")
    return value


Url = Annotated[str, AfterValidator(parse_url)]
Subnet = Annotated[str, AfterValidator(parse_subnet)]
ZoneName = Annotated[str, Field(min_length=1, max_length=63)]
SubnetId = Annotated[int, Field(ge=1)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta())]
Interval = Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(milliseconds=1))]
Bind = Annotated[str, AfterValidator(parse_bind)]
Network = Annotated[IpNetwork, BeforeValidator(parse_network)]
OptionalAddress = Annotated[IpAddress | None, BeforeValidator(parse_address)]
OptionalDirectory = Annotated[Path | None, BeforeValidator(parse_directory)]
TaintKey = Annotated[str, AfterValidator(parse_taint_key)]
LinkName = Annotated[str, AfterValidator(parse_link_name)]
