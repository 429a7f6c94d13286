"""A server described by a JSON object."""

import json
from pathlib import Path
from typing import Any

from lab.phpipam.state import PhpIpam

HELP = """\
the seed file is one JSON object; every part but "apps" may be missing:
  "version", "seed"   as of PhpIpam: "1.8.2", 0
  "apps"              [{"name", "security": none|ssl_token|ssl_code, "permission": 0..3, "code", "nest", "lock"}]
  "users"             [{"name", "password"}]
  "custom_fields"     [{"name": "custom_...", "length"}]
  "sections"          [{"name", "description"}]
  "subnets"           [{"section": NAME, "cidr", "gateway", "description", "is_full", "is_pool", "vrf", "master": CIDR}]
  "addresses"         [{"subnet": CIDR, "ip", "hostname", "description", "note", "owner", "tag", custom fields}]
  "faults"            the fields of Faults
"""


def seeded(file: Path) -> PhpIpam:
    """Raises ValueError, TypeError or KeyError for a description that makes no sense."""
    return described(json.loads(file.read_text(encoding="utf-8")))


def described(text: dict[str, Any]) -> PhpIpam:
    ipam = PhpIpam(text.get("version", "1.8.2"), text.get("seed", 0))
    for app in text["apps"]:
        ipam.add_app(**app)
    for user in text.get("users", ()):
        ipam.add_user(**user)
    for column in text.get("custom_fields", ()):
        ipam.add_custom_field(**column)
    sections = {each["name"]: ipam.add_section(**each) for each in text.get("sections", ())}
    subnets: dict[str, int] = {}
    for subnet in text.get("subnets", ()):
        rest = {name: value for name, value in subnet.items() if name not in ("section", "master")}
        master = subnets[subnet["master"]] if subnet.get("master") else None
        subnets[subnet["cidr"]] = ipam.add_subnet(sections[subnet["section"]], master=master, **rest)
    for address in text.get("addresses", ()):
        rest = {name: value for name, value in address.items() if name != "subnet"}
        ipam.add_address(subnets[address["subnet"]], **rest)
    set_faults(ipam, text.get("faults", {}))
    return ipam


def set_faults(ipam: PhpIpam, values: dict[str, Any]) -> None:
    """Raises ValueError for an unknown fault or a value of another kind; then nothing is set."""
    for name, value in values.items():
        kind = type(getattr(ipam.faults, name, None))
        if kind not in (bool, int, float) or (kind is bool) != isinstance(value, bool):
            raise ValueError(f"{name}: {value!r}")
        if not isinstance(value, int | float) or value < 0:
            raise ValueError(f"{name}: {value!r}")
    for name, value in values.items():
        setattr(ipam.faults, name, value)
