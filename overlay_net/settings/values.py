"""Types of setting values, with their error messages."""

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

from overlay_net.model import parse
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.selectors import Selector
from overlay_net.settings.durations import parse_duration


def parse_bind(value: str) -> str:
    """Check a listen address: ``:8080``, ``127.0.0.1:8080`` or ``[::1]:8080``."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError("must be an address and port such as :8080, 127.0.0.1:8080 or [::1]:8080")
    return value


def parse_link_name(value: str) -> str:
    """Check an interface name as the kernel does (dev_valid_name in net/core/dev.c)."""
    if not 0 < len(value) < 16 or value in {".", ".."} or re.search(r"[/:\s]", value):
        raise ValueError("must be an interface name of 1 to 15 characters without slash, colon or space")
    return value


def parse_network(value: object) -> object:
    """Parse a subnet without host bits."""
    network = parse.parse_network(value) if isinstance(value, str) else value
    if not isinstance(network, IPv4Network | IPv6Network):
        raise ValueError("must be a subnet without host bits, such as 10.0.0.0/8")
    return network


def parse_address(value: object) -> object:
    """Parse an IP address; None for an empty string."""
    found = parse.parse_address(value) if isinstance(value, str) else value
    if value not in ("", None) and not isinstance(found, IPv4Address | IPv6Address):
        raise ValueError("must be an IP address, such as 10.176.162.151")
    return found


def parse_directory(value: object) -> object:
    """Parse an absolute path; None for an empty string."""
    if value in ("", None):
        return None
    if not str(value).startswith("/"):
        raise ValueError("must be an absolute path, or empty for none")
    return Path(str(value))


def parse_selector(value: str) -> str:
    """Check a label selector in the syntax of ``kubectl -l``; an empty string selects all."""
    Selector.parse_text(value)
    return value


def parse_subnet(value: str) -> str:
    """Check a subnet without host bits."""
    if parse.parse_network(value) is None:
        raise ValueError("must be a subnet without host bits, such as 10.1.0.0/16")
    return value


def parse_url(value: str) -> str:
    """Check an HTTP(S) URL with an optional path, without query and credentials."""
    parts = urlsplit(value)
    try:
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be a URL such as https://phpipam.example.com, without user, password and query")
    return value


def parse_taint_key(value: str) -> str:
    """Check the key of a taint (same syntax as label keys), or an empty string for none."""
    if value and not re.fullmatch(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("must be the key of a taint, such as overlay-net.example.com/not-ready")
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
LabelSelector = Annotated[str, AfterValidator(parse_selector)]
LinkName = Annotated[str, AfterValidator(parse_link_name)]
