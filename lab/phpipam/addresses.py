"""The addresses controller: reads."""

import re
from collections.abc import Sequence

from lab.phpipam import filters, render
from lab.phpipam.columns import Row
from lab.phpipam.space import decimal, dotted, lowest_free
from lab.phpipam.state import PhpIpam
from lab.phpipam.wire import Answer, Call, Raw, Refusal, Unrecorded

NO_PING = "<div class='alert alert-danger'>Invalid ping path</div>"
NO_LINK_FIELD = (
    "<div class='alert alert-danger'>Error: SQLSTATE[42S22]: Column not found: 1054 Unknown column '0' in 'WHERE'</div>"
    '{"code":404,"success":false,"message":"No addresses found","time":0.053}'
)


def get(ipam: PhpIpam, call: Call) -> Answer:
    first, second = call.text("id"), call.text("id2")
    match first:
        case None | "all":
            return _all(ipam, call)
        case "first_free":
            return Answer(data=_first_free(ipam, call), fetched=False)
        case "tags":
            return _tags(ipam, call)
    filters.refuse(call)
    if first == "custom_fields":
        return custom_fields(ipam, "addresses")
    if first.startswith("search"):
        return Answer(data=_search(ipam, first, second))
    if second is not None and decimal(first) is not None and not first.isdigit():
        return Answer(data=_in_subnet(ipam, first, second))
    if not first.isdigit():
        raise Refusal(400, "Invalid Id")
    row = ipam.find(int(first))
    if second == "ping" and row is not None:
        raise Raw(200, NO_PING)
    if second is not None:
        raise Unrecorded("what is behind the id of an address")
    if row is None:
        raise Refusal(404, "Invalid Id")
    return Answer(data=render.address(row))


def custom_fields(ipam: PhpIpam, table: str) -> Answer:
    fields = render.custom_fields(ipam.columns[table])
    if not fields:
        raise Refusal(404, "No custom fields defined")
    described = {
        name: {"name": name, "type": column.sql_type, "Comment": column.comment, "Null": "YES", "Default": None}
        for name, column in fields.items()
    }
    return Answer(data=described, fetched=False)


def _all(ipam: PhpIpam, call: Call) -> Answer:
    rows = [render.address(row) for row in ipam.addresses()]
    if not rows:
        raise Unrecorded("all addresses of a server without any")
    return Answer(data=filters.filtered(rows, call))


def _first_free(ipam: PhpIpam, call: Call) -> str:
    filters.refuse(call)
    identifier = call.text("subnetId") or call.text("id2") or ""
    subnet = ipam.subnets.get(int(identifier)) if identifier.isdigit() else None
    free = None if subnet is None or subnet["isFull"] else free_in(ipam, subnet)
    if free is None:
        raise Refusal(404, "No free addresses found")
    return free


def free_in(ipam: PhpIpam, subnet: Row) -> str | None:
    """The address that would be given out next; a parent and a folder have none."""
    if subnet["isFolder"] or ipam.slaves(subnet["id"]):
        return None
    number = lowest_free(subnet, ipam.taken(subnet["id"]))
    return None if number is None else dotted(number)


def _in_subnet(ipam: PhpIpam, ip: str, subnet: str) -> Row:
    rows = ipam.addresses(int(subnet)) if subnet.isdigit() else []
    if ipam.finds_only_lowest_id:
        rows = sorted(rows, key=lambda row: int(row["id"]))[:1]
    for row in rows:
        # Compared as text: another spelling of an IPv6 address is not found.
        if dotted(row["ip_addr"]) == ip:
            return render.raw_address(row)
    raise Refusal(404, "No addresses found")


def _tags(ipam: PhpIpam, call: Call) -> Answer:
    identifier, rest = call.text("id2"), call.text("id3")
    if identifier is None:
        return Answer(data=[render.tag(number, name) for number, name in ipam.tags.items()])
    if not identifier.isdigit() or rest not in (None, "addresses"):
        raise Unrecorded("this call of addresses/tags/")
    tag = int(identifier)
    if tag not in ipam.tags:
        raise Refusal(404, "Address tag does not exist")
    if rest is None:
        return Answer(data=render.tag(tag, ipam.tags[tag]))
    filters.refuse(call)
    subnet = call.text("subnetId")
    rows = [row for row in ipam.addresses() if row["state"] == tag and subnet in (None, str(row["subnetId"]))]
    if not rows:
        raise Refusal(404, "No addresses found")
    return Answer(data=render.first_dotted(rows))


def _search(ipam: PhpIpam, kind: str, value: str | None) -> Sequence[Row]:
    match kind:
        case "search":
            number = None if value is None else decimal(value)
            if not number or (value or "").isdigit():
                raise Refusal(400, "Invalid address")
            found = [render.address(row) for row in ipam.addresses() if row["ip_addr"] == number]
            return _some(found, "Address not found")
        case "search_hostname":
            name = (value or "").lower()
            rows = [row for row in ipam.addresses() if value and (row["hostname"] or "").lower() == name]
            return _some(render.first_dotted(rows), "Hostname not found")
        case "search_hostbase":
            if value is None:
                raise Unrecorded("search_hostbase without a value")
            rows = [row for row in ipam.addresses() if _like(value + "%", row["hostname"])]
            rows.sort(key=lambda row: (row["hostname"].lower(), row["id"]))
            return _some([render.address(row) for row in rows], "Host name not found")
        case "search_mac":
            mac = normal_mac(value or "")
            rows = [row for row in ipam.addresses() if mac is not None and row["mac"] == mac]
            return _at_most_one(rows, "Host name not found")
        case "search_linked":
            if ipam.link_field is None:
                raise Raw(404, NO_LINK_FIELD, "application/json; charset=utf-8")
            rows = [row for row in ipam.addresses() if value and _same(row[ipam.link_field], value)]
            return _at_most_one(rows, "No addresses found")
    raise Refusal(400, "Invalid Id")


def _some(rows: Sequence[Row], otherwise: str) -> Sequence[Row]:
    if not rows:
        raise Refusal(404, otherwise)
    return rows


def _at_most_one(rows: Sequence[Row], otherwise: str) -> Sequence[Row]:
    if len(rows) > 1:
        raise Unrecorded("whether further rows have their address dotted here")
    return _some([render.address(row) for row in rows], otherwise)


def _same(cell: object, value: str) -> bool:
    return cell is not None and str(cell).lower() == value.lower()


def _like(pattern: str, text: str | None) -> bool:
    """LIKE of the database: ``_`` is any letter, ``%`` any text, case does not count."""
    wild = {"_": ".", "%": ".*"}
    expression = "".join(wild.get(letter, re.escape(letter)) for letter in pattern)
    return text is not None and re.fullmatch(expression, text, re.IGNORECASE | re.DOTALL) is not None


def normal_mac(text: str) -> str | None:
    """Lower case with colons; None for what is no MAC address."""
    digits = re.sub(r"[-:.\s]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        return None
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))
