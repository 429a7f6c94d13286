"""The subnets and folders controllers: writes."""

from ipaddress import ip_address, ip_network
from typing import Any

from lab.phpipam.columns import Row, stored
from lab.phpipam.space import parse_network
from lab.phpipam.state import PhpIpam
from lab.phpipam.subnets import existing
from lab.phpipam.wire import Answer, Call, Refusal, Unrecorded


async def post(ipam: PhpIpam, call: Call) -> Answer:
    params = {name: value for name, value in call.params.items() if name not in ("app_id", "controller")}
    section = ipam.sections.get(int(params["sectionId"])) if str(params.get("sectionId", "")).isdigit() else None
    folder = str(params.get("isFolder", 0)) == "1"
    if folder:
        params |= {"subnet": "0.0.0.0", "mask": None}
    else:
        _check_cidr(params)
    if section is None:
        raise Refusal(400, f"Invalid Section ({params.get('sectionId', '')})")
    values = _stored(ipam, params)
    if not folder:
        _check_overlap(ipam, values, section)
    identifier = str(ipam.insert_subnet(values))
    location = f"/api/{call.params['app_id']}/subnets/{identifier}/"
    cidr = f"{values['subnet']}/{values['mask'] or ''}"
    return Answer(201, cidr, "Subnet created", identifier, location, fetched=False)


async def patch(ipam: PhpIpam, call: Call) -> Answer:
    params = {name: value for name, value in call.params.items() if name not in ("app_id", "controller", "id")}
    subnet = ipam.subnets.get(int(str(call.params.get("id")))) if str(call.params.get("id")).isdigit() else None
    if subnet is None or "id2" in params:
        raise Unrecorded("this PATCH of subnets/")
    if "mask" in params:
        raise Refusal(400, "To change mask use resize method")
    if params.keys() & {"subnet", "sectionId", "masterSubnetId", "vrfId", "isFolder"}:
        raise Unrecorded("a PATCH that moves a subnet")
    subnet |= _stored(ipam, params) | {"editDate": subnet["editDate"] or ipam.clock()}
    return Answer(message="Subnet updated")


async def delete(ipam: PhpIpam, call: Call) -> Answer:
    subnet = existing(ipam, str(call.params.get("id")))
    if ipam.slaves(subnet["id"]):
        raise Unrecorded("the deletion of a parent")
    match call.text("id2"):
        case None:
            ipam.truncate(subnet["id"])
            del ipam.subnets[subnet["id"]]
            return Answer(message="Subnet deleted")
        case "truncate":
            ipam.truncate(subnet["id"])
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


def _stored(ipam: PhpIpam, params: dict[str, Any]) -> Row:
    columns = ipam.columns["subnets"]
    for name in params:
        if name not in columns.keys() - {"editDate", "id"}:
            raise Refusal(400, f"Invalid request key {name}")
    return {name: stored(name, value, columns[name], "subnets") for name, value in params.items()}


def _check_overlap(ipam: PhpIpam, values: Row, section: Row) -> None:
    """Within a section, a VRF and a parent: 172.30.0.0/24 may exist in each of two VRFs of one section."""
    network, parent = parse_network(values), values.get("masterSubnetId", 0)
    if parent and not (parent in ipam.subnets and _inside(network, ipam.subnets[parent])):
        raise Unrecorded("a subnet outside its parent")
    place = (section["id"], values.get("vrfId"), parent)
    for other in ipam.subnets.values():
        if other["isFolder"] or (other["sectionId"], other["vrfId"] or None, other["masterSubnetId"]) != place:
            continue
        there = parse_network(other)
        if there.overlaps(network):
            named = f"{there} ({other['description']}) in section {section['name']}"
            raise Refusal(409, f"Subnet {network} overlaps with {named}")


def _inside(network: Any, parent: Row) -> bool:
    there = parse_network(parent)
    return network.version == there.version and bool(network.subnet_of(there))
