"""The subnets and folders controllers: write calls."""

from ipaddress import ip_address, ip_network
from typing import Any

from lab.phpipam.call import Answer, Call, Refusal, Unrecorded
from lab.phpipam.columns import Row, convert_value
from lab.phpipam.server import Server
from lab.phpipam.subnet_arithmetic import parse_network
from lab.phpipam.subnets import get_subnet


async def post(server: Server, call: Call) -> Answer:
    params = {name: value for name, value in call.params.items() if name not in ("app_id", "controller")}
    section = server.sections.get(int(params["sectionId"])) if str(params.get("sectionId", "")).isdigit() else None
    folder = str(params.get("isFolder", 0)) == "1"
    if folder:
        params |= {"subnet": "0.0.0.0", "mask": None}
    else:
        _check_cidr(params)
    if section is None:
        raise Refusal(400, f"Invalid Section ({params.get('sectionId', '')})")
    values = _stored(server, params)
    if not folder:
        _check_overlap(server, values, section)
    identifier = str(server.insert_subnet(values))
    location = f"/api/{call.params['app_id']}/subnets/{identifier}/"
    cidr = f"{values['subnet']}/{values['mask'] or ''}"
    return Answer(201, cidr, "Subnet created", identifier, location, fetched=False)


async def patch(server: Server, call: Call) -> Answer:
    params = {name: value for name, value in call.params.items() if name not in ("app_id", "controller", "id")}
    subnet = server.subnets.get(int(str(call.params.get("id")))) if str(call.params.get("id")).isdigit() else None
    if subnet is None or "id2" in params:
        raise Unrecorded("this PATCH of subnets/")
    if "mask" in params:
        raise Refusal(400, "To change mask use resize method")
    if params.keys() & {"subnet", "sectionId", "masterSubnetId", "vrfId", "isFolder"}:
        raise Unrecorded("a PATCH that moves a subnet")
    subnet |= _stored(server, params) | {"editDate": subnet["editDate"] or server.clock()}
    return Answer(message="Subnet updated")


async def delete(server: Server, call: Call) -> Answer:
    subnet = get_subnet(server, str(call.params.get("id")))
    if server.slaves(subnet["id"]):
        raise Unrecorded("the deletion of a parent")
    match call.text("id2"):
        case None:
            server.truncate(subnet["id"])
            del server.subnets[subnet["id"]]
            return Answer(message="Subnet deleted")
        case "truncate":
            server.truncate(subnet["id"])
            return Answer(message="Subnet truncated")
    raise Unrecorded("this DELETE of subnets/")


def _check_cidr(params: dict[str, Any]) -> None:
    try:
        ip_address(str(params.get("subnet")))
        network = ip_network(f"{params['subnet']}/{params['mask']}", strict=False)
    except (ValueError, KeyError):
        raise Refusal(400, "Invalid IP address!") from None
    if str(network.network_address) != str(ip_address(params["subnet"])):
        raise Refusal(400, f"IP address cannot be subnet! (Consider using {network.network_address})")
    params |= {"subnet": str(network.network_address), "mask": str(params["mask"])}


def _stored(server: Server, params: dict[str, Any]) -> Row:
    columns = server.columns["subnets"]
    for name in params:
        if name not in columns.keys() - {"editDate", "id"}:
            raise Refusal(400, f"Invalid request key {name}")
    return {name: convert_value(name, value, columns[name], "subnets") for name, value in params.items()}


def _check_overlap(server: Server, values: Row, section: Row) -> None:
    """Subnets must not overlap within one section, VRF and parent."""
    network, parent = parse_network(values), values.get("masterSubnetId", 0)
    if parent and not (parent in server.subnets and _inside(network, server.subnets[parent])):
        raise Unrecorded("a subnet outside its parent")
    place = (section["id"], values.get("vrfId"), parent)
    for other in server.subnets.values():
        if other["isFolder"] or (other["sectionId"], other["vrfId"] or None, other["masterSubnetId"]) != place:
            continue
        there = parse_network(other)
        if there.overlaps(network):
            named = f"{there} ({other['description']}) in section {section['name']}"
            raise Refusal(409, f"Subnet {network} overlaps with {named}")


def _inside(network: Any, parent: Row) -> bool:
    there = parse_network(parent)
    return network.version == there.version and bool(network.subnet_of(there))
