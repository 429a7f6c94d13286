"""The addresses controller: write calls."""

from typing import Any

from lab.phpipam.addresses import next_free, normalise_mac
from lab.phpipam.call import Answer, Call, Raw, Refusal, Unrecorded
from lab.phpipam.columns import COLUMN_NAMES, Row, convert_value
from lab.phpipam.server import Server
from lab.phpipam.subnet_arithmetic import accepts, decimal

NUMERIC = Refusal(400, "SubnetId must be numeric")


async def post(server: Server, call: Call) -> Answer:
    params = _by_column(call)
    first_free = params.get("id") == "first_free"
    if first_free:
        params |= _reserve(server, params)
        await server.allow_race(call)
    subnet = _subnet(server, params)
    number = decimal(params.get("ip_addr") or "")
    if server.holds(subnet["id"], number) and not (first_free and server.faults.duplicates):
        raise Refusal(409, "IP address already exists")
    if subnet["isFolder"]:
        raise Unrecorded("an address in a folder")
    _check_common(server, params)
    values = _valid(server, params)
    if not first_free and "id" in values:
        raise Unrecorded("an address with an explicit id")
    values.pop("id", None)
    _check_place(subnet, number, str(params.get("ip_addr") or ""))
    await server.allow_race(call)
    stored_values = _stored(server, {name: value for name, value in values.items() if name != "ip_addr"})
    identifier = str(server.insert(stored_values | {"ip_addr": number, "subnetId": subnet["id"]}))
    _fail_afterwards(server, subnet["id"])
    location = f"/api/{call.params['app_id']}/addresses/{identifier}/"
    if first_free:
        ip = str(params["ip_addr"])
        return Answer(201, ip, "Address created", identifier, location, fetched=False)
    return Answer(201, message="Address created", id=identifier, location=location)


async def patch(server: Server, call: Call) -> Answer:
    params = _by_column(call)
    for name, message in (("ip_addr", "IP address cannot be changed"), ("subnetId", "Subnet cannot be changed")):
        if name in params:
            if params[name] is None:
                raise Unrecorded(f"{name} null in a PATCH")
            raise Refusal(400, message)
    row = _existing(server, params.get("id"))
    _check_common(server, params)
    values = _stored(server, {name: value for name, value in _valid(server, params).items() if name != "id"})
    # The server writes the whole row back, so a write in between is lost.
    whole = row | values | {"editDate": row["editDate"] or server.clock()}
    await server.allow_race(call)
    server.update(row["id"], whole)
    _fail_afterwards(server, row["subnetId"])
    return Answer(message="Address updated")


async def delete(server: Server, call: Call) -> Answer:
    identifier, subnet = call.params.get("id"), call.text("id2")
    number = decimal(identifier) if isinstance(identifier, str) and not identifier.isdigit() else None
    if number is not None and subnet is not None:
        rows = [row for row in server.addresses() if row["ip_addr"] == number]
        if not rows:
            raise Raw(500)
        rows = [row for row in rows if str(row["subnetId"]) == subnet]
        if not rows:
            raise Refusal(404, "No addresses found")
        identifier = rows[0]["id"]
    row = _existing(server, identifier)
    await server.allow_race(call)
    server.delete(row["id"])
    _fail_afterwards(server, row["subnetId"])
    return Answer(message="Address deleted")


def _fail_afterwards(server: Server, subnet: int) -> None:
    if subnet == server.faults.failing_subnet:
        raise Raw(500)


def _by_column(call: Call) -> dict[str, Any]:
    """The parameters with the names of the columns; renamed ones move to the end."""
    params = {name: value for name, value in call.params.items() if name not in COLUMN_NAMES}
    return params | {COLUMN_NAMES[name]: value for name, value in call.params.items() if name in COLUMN_NAMES}


def _reserve(server: Server, params: dict[str, Any]) -> dict[str, Any]:
    """The lowest free address of the subnet in the path, as parameters of a write."""
    identifier = params.get("subnetId")
    if identifier is None:
        identifier = params.pop("id2", None)
    subnet = server.subnets.get(int(identifier)) if str(identifier).isdigit() else None
    if subnet is None:
        raise Refusal(400, "Invalid subnet identifier")
    if subnet["isFull"]:
        raise Refusal(404, "No free addresses found (subnet is full)")
    ip = next_free(server, subnet)
    if ip is None:
        raise Refusal(404, "No free addresses found")
    described = {} if params.get("description") is not None else {"description": "API created"}
    return {"ip_addr": ip, "subnetId": subnet["id"], **described}


def _subnet(server: Server, params: dict[str, Any]) -> Row:
    identifier = str(params.get("subnetId"))
    if not identifier.isdigit():
        raise NUMERIC
    subnet = server.subnets.get(int(identifier))
    if subnet is None:
        raise Refusal(404, "Invalid subnet Id")
    return subnet


def _existing(server: Server, identifier: Any) -> Row:
    row = server.find(int(identifier)) if str(identifier).isdigit() else None
    if row is None:
        raise Refusal(404, "Address does not exist")
    return dict(row)


def _check_common(server: Server, params: dict[str, Any]) -> None:
    """Check a new or changed row. Without a tag in the call the tag becomes 2, also if it was another one before."""
    if params.get("mac"):
        mac = normalise_mac(str(params["mac"]))
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
    elif int(tag) not in server.tags:
        raise Refusal(400, "Tag does not exist")


def _valid(server: Server, params: dict[str, Any]) -> dict[str, Any]:
    columns = server.columns["addresses"].keys() - {"editDate"}
    for name in params:
        if name not in columns | {"app_id", "controller"}:
            raise Refusal(400, f"Invalid request key {name}")
    return {name: value for name, value in params.items() if name in columns}


def _stored(server: Server, values: dict[str, Any]) -> Row:
    columns = server.columns["addresses"]
    return {name: convert_value(name, value, columns[name]) for name, value in values.items()}


def _check_place(subnet: Row, number: int | None, given: str) -> None:
    if number is None or not accepts(subnet, number, given):
        shown = "0.0.0.0" if number is None else given
        raise Refusal(500, f"{shown} is not a valid address for subnet {subnet['subnet']}/{subnet['mask']}")
