"""The representation of rows in responses."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lab.phpipam.columns import API_NAMES, Row
from lab.phpipam.subnet_arithmetic import dotted

SUBNET_LINKS = {
    "addresses": ["GET"],
    "addresses/{ip}": ["GET"],
    "usage": ["GET"],
    "first_free": ["GET"],
    "slaves": ["GET"],
    "slaves_recursive": ["GET"],
    "truncate": ["DELETE"],
    "permissions": ["DELETE", "PATCH"],
    "resize": ["PATCH"],
    "split": ["PATCH"],
}
LINKS = {"subnets": SUBNET_LINKS, "addresses": {"ping": ["GET"]}}
GROUPS = {"3": ("Guests", "default Guest group (viewers)"), "2": ("Operators", "default Operator group")}
TAG_STYLES = {
    1: (1, "#f59c99", "No"),
    2: (0, "#a9c9a4", "No"),
    3: (1, "#9ac0cd", "No"),
    4: (1, "#c9c9c9", "Yes"),
}


def address(row: Row, number: bool = False) -> Row:
    """A row with the names of the API; with ``number`` the address is the decimal number of the table."""
    result = {API_NAMES.get(name, name): value for name, value in row.items()}
    result["ip"] = str(row["ip_addr"]) if number else dotted(row["ip_addr"])
    return result


def render_list(rows: Sequence[Row]) -> list[Row]:
    """A list in which only the address of the first row is converted (recordings 419, 515)."""
    return [address(row, number=bool(index)) for index, row in enumerate(rows)]


def raw_address(row: Row) -> Row:
    """A row with the names of the columns, and the dotted address as last key."""
    return row | {"ip_addr": str(row["ip_addr"]), "ip": dotted(row["ip_addr"])}


def listed_subnet(row: Row, gateway: Row | None, members: Sequence[str]) -> Row:
    """An element of the list of all subnets; ``gateway`` may be that of another subnet."""
    permissions = [
        {
            "group_id": int(group),
            "permission": level,
            "name": GROUPS[group][0],
            "desc": GROUPS[group][1],
            "members": [{"username": name} for name in members] if group == "2" and members else False,
        }
        for group, level in json.loads(row["permissions"]).items()
    ]
    result = row | {"permissions": permissions, "location": []}
    if gateway is not None:
        result |= {"gatewayId": gateway["id"], "gateway": gateway | {"ip_addr": dotted(gateway["ip_addr"])}}
    return result


def tag(identifier: int, name: str) -> Row:
    show, background, compress = TAG_STYLES[identifier]
    return {
        "id": identifier,
        "type": name,
        "showtag": show,
        "bgcolor": background,
        "fgcolor": "#ffffff",
        "compress": compress,
        "locked": "Yes",
        "updateTag": 1,
    }


def with_links(row: Row, app: str, controller: str) -> Row:
    here = f"/api/{app}/{controller}/{row['id']}/"
    links = [{"rel": "self", "href": here, "methods": ["GET", "POST", "DELETE", "PATCH"]}]
    links += [
        {"rel": name, "href": f"{here}{name}/", "methods": methods} for name, methods in LINKS[controller].items()
    ]
    return row | {"links": links}


def with_self_link(row: Row, app: str, controller: str) -> Row:
    return row | {"links": [{"rel": "self", "href": f"/api/{app}/{controller}/{row['id']}/"}]}


def nest_custom_fields(data: Any, custom: Mapping[str, Any]) -> Any:
    """For an app that nests custom fields: all of a single object are nested, in a list only those with a value."""
    if isinstance(data, list):
        return [_nest(row, [name for name in custom if row.get(name) is not None], bool(custom)) for row in data]
    return _nest(data, list(custom), False)


def _nest(row: Row, names: Sequence[str], quiet: bool) -> Row:
    if not names:
        return row if quiet else row | {"custom_fields": None}
    fields = {name: row[name] for name in names}
    return {name: value for name, value in row.items() if name not in fields} | {"custom_fields": fields}


def custom_fields(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: column for name, column in columns.items() if name.startswith("custom_")}
