"""The seed file: a JSON object that describes the initial content of a server."""

import json
from pathlib import Path
from typing import Any

from lab.phpipam.server import Server

HELP = """\
the seed file is a JSON object; only "apps" is required:
  "version", "seed"   phpIPAM version, default "1.8.2"; seed of random numbers, default 0
  "apps"              [{"name", "security": none|ssl_token|ssl_code, "permission": 0..3, "code", "nest", "lock"}]
  "users"             [{"name", "password"}]
  "custom_fields"     [{"name": "custom_...", "length"}]
  "sections"          [{"name", "description"}]
  "subnets"           [{"section": NAME, "cidr", "gateway", "description", "is_full", "is_pool", "vrf", "master": CIDR}]
  "addresses"         [{"subnet": CIDR, "ip", "hostname", "description", "note", "owner", "tag", custom fields}]
  "faults"            initial faults, named as in PATCH /_lab/faults
"""


def load_server(file: Path) -> Server:
    """Raises ValueError, TypeError or KeyError for an invalid description."""
    return build_server(json.loads(file.read_text(encoding="utf-8")))


def build_server(seed: dict[str, Any]) -> Server:
    server = Server(seed.get("version", "1.8.2"), seed.get("seed", 0))
    for app in seed["apps"]:
        server.add_app(**app)
    for user in seed.get("users", ()):
        server.add_user(**user)
    for column in seed.get("custom_fields", ()):
        server.add_custom_field(**column)
    sections = {each["name"]: server.add_section(**each) for each in seed.get("sections", ())}
    subnets: dict[str, int] = {}
    for subnet in seed.get("subnets", ()):
        rest = {name: value for name, value in subnet.items() if name not in ("section", "master")}
        master = subnets[subnet["master"]] if subnet.get("master") else None
        subnets[subnet["cidr"]] = server.add_subnet(sections[subnet["section"]], master=master, **rest)
    for address in seed.get("addresses", ()):
        rest = {name: value for name, value in address.items() if name != "subnet"}
        server.add_address(subnets[address["subnet"]], **rest)
    set_faults(server, seed.get("faults", {}))
    return server


def set_faults(server: Server, values: dict[str, Any]) -> None:
    """Raises ValueError for an unknown fault or a value of the wrong type; no fault is set then."""
    for name, value in values.items():
        kind = type(getattr(server.faults, name, None))
        number = kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if not number and (kind not in (bool, str) or type(value) is not kind):
            raise ValueError(f"{name}: {value!r}")
    for name, value in values.items():
        setattr(server.faults, name, value)
