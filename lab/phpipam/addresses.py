"""The addresses controller: read calls."""

import re
from collections.abc import Callable, Sequence

from lab.phpipam import filters, render
from lab.phpipam.call import Answer, Call, Raw, Refusal, Unrecorded
from lab.phpipam.columns import Row
from lab.phpipam.server import Server
from lab.phpipam.subnet_arithmetic import decimal, dotted, lowest_free

NO_PING = "<div class='alert alert-danger'>Invalid ping path</div>"
NO_LINK_FIELD = (
    "<div class='alert alert-danger'>Error: SQLSTATE[42S22]: Column not found: 1054 Unknown column '0' in 'WHERE'</div>"
    '{"code":404,"success":false,"message":"No addresses found","time":0.053}'
)


def get(server: Server, call: Call) -> Answer:
    first, second = call.text("id"), call.text("id2")
    match first:
        case None | "all":
            return _all(server, call)
        case "first_free":
            return Answer(data=_first_free(server, call), fetched=False)
        case "tags":
            return _tags(server, call)
    filters.reject(call)
    if first == "custom_fields":
        return custom_fields(server, "addresses")
    if first.startswith("search"):
        return Answer(data=_search(server, first, second))
    if second is not None and decimal(first) is not None and not first.isdigit():
        return Answer(data=_in_subnet(server, first, second))
    if not first.isdigit():
        raise Refusal(400, "Invalid Id")
    row = server.find(int(first))
    if second == "ping" and row is not None:
        raise Raw(200, NO_PING)
    if second is not None:
        raise Unrecorded("a path segment after the id of an address")
    if row is None:
        raise Refusal(404, "Invalid Id")
    return Answer(data=render.address(row))


def custom_fields(server: Server, table: str) -> Answer:
    fields = render.custom_fields(server.columns[table])
    if not fields:
        raise Refusal(404, "No custom fields defined")
    described = {
        name: {"name": name, "type": column.sql_type, "Comment": column.comment, "Null": "YES", "Default": None}
        for name, column in fields.items()
    }
    return Answer(data=described, fetched=False)


def _all(server: Server, call: Call) -> Answer:
    rows = [render.address(row) for row in server.addresses()]
    if not rows:
        raise Unrecorded("the list of all addresses when there are none")
    return Answer(data=filters.apply_filter(rows, call))


def _first_free(server: Server, call: Call) -> str:
    filters.reject(call)
    identifier = call.text("subnetId") or call.text("id2") or ""
    subnet = server.subnets.get(int(identifier)) if identifier.isdigit() else None
    free = None if subnet is None or subnet["isFull"] else next_free(server, subnet)
    if free is None:
        raise Refusal(404, "No free addresses found")
    return free


def next_free(server: Server, subnet: Row) -> str | None:
    """The address that first_free returns; parents and folders have none."""
    if subnet["isFolder"] or server.slaves(subnet["id"]):
        return None
    number = lowest_free(subnet, server.taken(subnet["id"]))
    return None if number is None else dotted(number)


def _in_subnet(server: Server, ip: str, subnet: str) -> Row:
    rows = server.addresses(int(subnet)) if subnet.isdigit() else []
    if server.finds_only_lowest_id:
        rows = sorted(rows, key=lambda row: int(row["id"]))[:1]
    for row in rows:
        # The comparison is textual: other spellings of an IPv6 address are not found.
        if dotted(row["ip_addr"]) == ip:
            return render.raw_address(row)
    raise Refusal(404, "No addresses found")


def _tags(server: Server, call: Call) -> Answer:
    identifier, rest = call.text("id2"), call.text("id3")
    if identifier is None:
        return Answer(data=[render.tag(number, name) for number, name in server.tags.items()])
    if not identifier.isdigit() or rest not in (None, "addresses"):
        raise Unrecorded("this call of addresses/tags/")
    tag = int(identifier)
    if tag not in server.tags:
        raise Refusal(404, "Address tag does not exist")
    if rest is None:
        return Answer(data=render.tag(tag, server.tags[tag]))
    filters.reject(call)
    subnet = call.text("subnetId")
    rows = [row for row in server.addresses() if row["state"] == tag and subnet in (None, str(row["subnetId"]))]
    if not rows:
        raise Refusal(404, "No addresses found")
    return Answer(data=render.render_list(rows))


def _search(server: Server, kind: str, value: str | None) -> Sequence[Row]:
    if kind not in SEARCHES:
        raise Refusal(400, "Invalid Id")
    return SEARCHES[kind](server, value)


def _search_address(server: Server, value: str | None) -> Sequence[Row]:
    number = None if value is None else decimal(value)
    if not number or (value or "").isdigit():
        raise Refusal(400, "Invalid address")
    found = [render.address(row) for row in server.addresses() if row["ip_addr"] == number]
    return _or_not_found(found, "Address not found")


def _search_hostname(server: Server, value: str | None) -> Sequence[Row]:
    name = (value or "").lower()
    rows = [row for row in server.addresses() if value and (row["hostname"] or "").lower() == name]
    return _or_not_found(render.render_list(rows), "Hostname not found")


def _search_hostbase(server: Server, value: str | None) -> Sequence[Row]:
    if value is None:
        raise Unrecorded("search_hostbase without a value")
    rows = [row for row in server.addresses() if _like(value + "%", row["hostname"])]
    rows.sort(key=lambda row: (row["hostname"].lower(), row["id"]))
    return _or_not_found([render.address(row) for row in rows], "Host name not found")


def _search_mac(server: Server, value: str | None) -> Sequence[Row]:
    mac = normalise_mac(value or "")
    rows = [row for row in server.addresses() if mac is not None and row["mac"] == mac]
    return _one_or_not_found(rows, "Host name not found")


def _search_linked(server: Server, value: str | None) -> Sequence[Row]:
    if server.link_field is None:
        raise Raw(404, NO_LINK_FIELD, "application/json; charset=utf-8")
    rows = [row for row in server.addresses() if value and _same(row[server.link_field], value)]
    return _one_or_not_found(rows, "No addresses found")


SEARCHES: dict[str, Callable[[Server, str | None], Sequence[Row]]] = {
    "search": _search_address,
    "search_hostname": _search_hostname,
    "search_hostbase": _search_hostbase,
    "search_mac": _search_mac,
    "search_linked": _search_linked,
}


def _or_not_found(rows: Sequence[Row], message: str) -> Sequence[Row]:
    if not rows:
        raise Refusal(404, message)
    return rows


def _one_or_not_found(rows: Sequence[Row], message: str) -> Sequence[Row]:
    if len(rows) > 1:
        raise Unrecorded("the form of the address in further rows")
    return _or_not_found([render.address(row) for row in rows], message)


def _same(cell: object, value: str) -> bool:
    return cell is not None and str(cell).lower() == value.lower()


def _like(pattern: str, text: str | None) -> bool:
    """SQL LIKE, ignoring case: ``_`` matches one character, ``%`` any text."""
    wild = {"_": ".", "%": ".*"}
    expression = "".join(wild.get(character, re.escape(character)) for character in pattern)
    return text is not None and re.fullmatch(expression, text, re.IGNORECASE | re.DOTALL) is not None


def normalise_mac(text: str) -> str | None:
    """Lower case with colons; None for an invalid MAC address."""
    digits = re.sub(r"[-:.\s]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        return None
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))
