"""The addresses controller: writes."""

from typing import Any

from lab.phpipam.addresses import free_in, normal_mac
from lab.phpipam.columns import COLUMN_NAMES, Row, stored
from lab.phpipam.space import accepts, decimal
from lab.phpipam.state import PhpIpam
from lab.phpipam.wire import Answer, Call, Raw, Refusal, Unrecorded

NUMERIC = Refusal(400, "SubnetId must be numeric")


async def post(ipam: PhpIpam, call: Call) -> Answer:
    params = _by_column(call)
    given_out = params.get("id") == "first_free"
    if given_out:
        params |= _reserve(ipam, params)
        await ipam.breathe(call)
    subnet = _subnet(ipam, params)
    number = decimal(params.get("ip_addr") or "")
    if ipam.holds(subnet["id"], number) and not (given_out and ipam.faults.duplicates):
        raise Refusal(409, "IP address already exists")
    if subnet["isFolder"]:
        raise Unrecorded("an address in a folder")
    _check_common(ipam, params)
    values = _valid(ipam, params)
    if not given_out and "id" in values:
        raise Unrecorded("an address with an id of one's own")
    values.pop("id", None)
    _check_place(subnet, number, str(params.get("ip_addr") or ""))
    await ipam.breathe(call)
    stored_values = _stored(ipam, {name: value for name, value in values.items() if name != "ip_addr"})
    identifier = str(ipam.insert(stored_values | {"ip_addr": number, "subnetId": subnet["id"]}))
    location = f"/api/{call.params['app_id']}/addresses/{identifier}/"
    if given_out:
        ip = str(params["ip_addr"])
        return Answer(201, ip, "Address created", identifier, location, fetched=False)
    return Answer(201, message="Address created", id=identifier, location=location)


async def patch(ipam: PhpIpam, call: Call) -> Answer:
    params = _by_column(call)
    for name, message in (("ip_addr", "IP address cannot be changed"), ("subnetId", "Subnet cannot be changed")):
        if name in params:
            if params[name] is None:
                raise Unrecorded(f"{name} null in a PATCH")
            raise Refusal(400, message)
    row = _existing(ipam, params.get("id"))
    _check_common(ipam, params)
    values = _stored(ipam, {name: value for name, value in _valid(ipam, params).items() if name != "id"})
    # The row as read is written back whole: a write in between is lost.
    whole = row | values | {"editDate": row["editDate"] or ipam.clock()}
    await ipam.breathe(call)
    ipam.update(row["id"], whole)
    return Answer(message="Address updated")


async def delete(ipam: PhpIpam, call: Call) -> Answer:
    identifier, subnet = call.params.get("id"), call.text("id2")
    number = decimal(identifier) if isinstance(identifier, str) and not identifier.isdigit() else None
    if number is not None and subnet is not None:
        rows = [row for row in ipam.addresses() if row["ip_addr"] == number]
        if not rows:
            raise Raw(500)
        rows = [row for row in rows if str(row["subnetId"]) == subnet]
        if not rows:
            raise Refusal(404, "No addresses found")
        identifier = rows[0]["id"]
    row = _existing(ipam, identifier)
    await ipam.breathe(call)
    ipam.delete(row["id"])
    return Answer(message="Address deleted")


def _by_column(call: Call) -> dict[str, Any]:
    """Parameters by the names of the columns; a renamed one moves to the end."""
    params = {name: value for name, value in call.params.items() if name not in COLUMN_NAMES}
    return params | {COLUMN_NAMES[name]: value for name, value in call.params.items() if name in COLUMN_NAMES}


def _reserve(ipam: PhpIpam, params: dict[str, Any]) -> dict[str, Any]:
    """Takes the subnet out of the path and picks its lowest free address."""
    identifier = params.get("subnetId")
    if identifier is None:
        identifier = params.pop("id2", None)
    subnet = ipam.subnets.get(int(identifier)) if str(identifier).isdigit() else None
    if subnet is None:
        raise Refusal(400, "Invalid subnet identifier")
    if subnet["isFull"]:
        raise Refusal(404, "No free addresses found (subnet is full)")
    ip = free_in(ipam, subnet)
    if ip is None:
        raise Refusal(404, "No free addresses found")
    described = {} if params.get("description") is not None else {"description": "API created"}
    return {"ip_addr": ip, "subnetId": subnet["id"], **described}


def _subnet(ipam: PhpIpam, params: dict[str, Any]) -> Row:
    identifier = str(params.get("subnetId"))
    if not identifier.isdigit():
        raise NUMERIC
    subnet = ipam.subnets.get(int(identifier))
    if subnet is None:
        raise Refusal(404, "Invalid subnet Id")
    return subnet


def _existing(ipam: PhpIpam, identifier: Any) -> Row:
    row = ipam.find(int(identifier)) if str(identifier).isdigit() else None
    if row is None:
        raise Refusal(404, "Address does not exist")
    return dict(row)


def _check_common(ipam: PhpIpam, params: dict[str, Any]) -> None:
    """Of a new and of a changed row. A row without a tag gets tag 2, also when it had another one."""
    if params.get("mac"):
        mac = normal_mac(str(params["mac"]))
        if mac is None:
            raise Refusal(400, "Invalid MAC address")
        params["mac"] = mac
    if params.get("switch"):
        raise Refusal(400, "Device does not exist")
    tag = params.get("state")
    if tag is None:
        params["state"] = 2
    elif not str(tag).isdigit():
        raise Refusal(400, "Invalid state")
    elif int(tag) not in ipam.tags:
        raise Refusal(400, "Tag does not exist")


def _valid(ipam: PhpIpam, params: dict[str, Any]) -> dict[str, Any]:
    columns = ipam.columns["addresses"].keys() - {"editDate"}
    for name in params:
        if name not in columns | {"app_id", "controller"}:
            raise Refusal(400, f"Invalid request key {name}")
    return {name: value for name, value in params.items() if name in columns}


def _stored(ipam: PhpIpam, values: dict[str, Any]) -> Row:
    columns = ipam.columns["addresses"]
    return {name: stored(name, value, columns[name]) for name, value in values.items()}


def _check_place(subnet: Row, number: int | None, given: str) -> None:
    if number is None or not accepts(subnet, number, given):
        shown = "0.0.0.0" if number is None else given
        raise Refusal(500, f"{shown} is not a valid address for subnet {subnet['subnet']}/{subnet['mask']}")
