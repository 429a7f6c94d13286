"""The subnets and folders controllers: reads."""

from ipaddress import ip_network

from lab.phpipam import filters, render
from lab.phpipam.addresses import custom_fields, free_in
from lab.phpipam.columns import Row
from lab.phpipam.space import calculation, dotted, parse_network, usage
from lab.phpipam.state import PhpIpam
from lab.phpipam.wire import Answer, Call, Refusal, Unrecorded

FIND_WORDS = ("cidr", "search", "overlapping")


def get(ipam: PhpIpam, call: Call) -> Answer:
    first, second = call.text("id"), call.text("id2")
    if first in (None, "all"):
        return _list(ipam, call, folders=False)
    if first in FIND_WORDS:
        return Answer(data=filters.filtered(_found(ipam, call, first), call))
    if second == "addresses":
        return _addresses(ipam, call, str(first))
    filters.refuse(call)
    if first == "custom_fields":
        return custom_fields(ipam, "subnets")
    if second is None:
        return Answer(data=detailed(ipam, _plain(ipam, str(first))))
    subnet = _parent_of_view(ipam, str(first))
    match second:
        case "usage":
            return Answer(data=usage_of(ipam, subnet), fetched=False)
        case "first_free":
            return Answer(data=_first_free(ipam, subnet), fetched=False)
        case "slaves":
            slaves = ipam.slaves(subnet["id"])
            if not slaves:
                raise Refusal(404, "No slaves")
            return Answer(data=slaves)
        case "slaves_recursive":
            return Answer(data=[detailed(ipam, each) for each in _family(ipam, subnet)])
        case "changelog" | "first_subnet" | "last_subnet" | "all_subnets" | "permissions":
            raise Unrecorded(f"subnets/{second}")
    raise Refusal(400, "Invalid request")


def get_folders(ipam: PhpIpam, call: Call) -> Answer:
    identifier = call.text("id")
    if identifier is None:
        return _list(ipam, call, folders=True)
    folder = ipam.subnets.get(int(identifier)) if identifier.isdigit() else None
    if folder is None or not folder["isFolder"] or "id2" in call.params:
        raise Unrecorded("this call of folders/")
    return Answer(data=folder)


def detailed(ipam: PhpIpam, subnet: Row) -> Row:
    """As one subnet is read by its id."""
    result = _with_nameservers(ipam, subnet)
    gateway = ipam.gateway(subnet["id"])
    if gateway is not None:
        ip = dotted(gateway["ip_addr"])
        result |= {"gatewayId": gateway["id"], "gateway": {"ip_addr": ip, "id": gateway["id"]}}
    return result | {"calculation": calculation(subnet)}


def _with_nameservers(ipam: PhpIpam, subnet: Row) -> Row:
    number = subnet["nameserverId"]
    return subnet | {"nameservers": ipam.nameservers[number]} if number else dict(subnet)


def usage_of(ipam: PhpIpam, subnet: Row) -> Row:
    if subnet["isFolder"]:
        raise Unrecorded("usage of a folder")
    slaves = ipam.slaves(subnet["id"])
    if any(ipam.slaves(slave["id"]) for slave in slaves):
        raise Unrecorded("usage of a parent of parents")
    rows = [row for slave in slaves or [subnet] for row in ipam.addresses(slave["id"])]
    return usage(subnet, rows, slaves, ipam.tags)


def _list(ipam: PhpIpam, call: Call, *, folders: bool) -> Answer:
    members = [user.name for user in ipam.users.values() if user.groups]
    rows = []
    for subnet in ipam.subnets.values():
        if bool(subnet["isFolder"]) == folders:
            # The server looks a gateway up by the id of the subnet among the ids of addresses.
            neighbour = ipam.find(subnet["id"])
            gateway = neighbour if neighbour is not None and neighbour["is_gateway"] == 1 else None
            rows.append(render.listed_subnet(_with_nameservers(ipam, subnet), gateway, members))
    if not rows:
        raise Unrecorded("an empty list of subnets")
    return Answer(data=filters.filtered(rows, call))


def _plain(ipam: PhpIpam, identifier: str) -> Row:
    if not identifier.isdigit():
        raise Refusal(404, "Invalid Id")
    subnet = ipam.subnets.get(int(identifier))
    if subnet is None:
        raise Refusal(400, f"Invalid subnet Id ({identifier})")
    if subnet["isFolder"]:
        raise Refusal(404, "No subnets found")
    return subnet


def _parent_of_view(ipam: PhpIpam, identifier: str) -> Row:
    if not identifier.isdigit():
        raise Refusal(400, f"Subnet Id must be numeric ({identifier})")
    return existing(ipam, identifier)


def existing(ipam: PhpIpam, identifier: str) -> Row:
    subnet = ipam.subnets.get(int(identifier)) if identifier.isdigit() else None
    if subnet is None:
        raise Refusal(404, f"Invalid subnet Id ({identifier})")
    return subnet


def _first_free(ipam: PhpIpam, subnet: Row) -> str:
    if ipam.slaves(subnet["id"]):
        raise Refusal(409, "Subnet contains subnets")
    free = None if subnet["isFull"] else free_in(ipam, subnet)
    if free is None:
        raise Refusal(404, "No free addresses found")
    return free


def _addresses(ipam: PhpIpam, call: Call, identifier: str) -> Answer:
    subnet, ip = _parent_of_view(ipam, identifier), call.text("id3")
    rows = ipam.addresses(subnet["id"])
    if ip is not None:
        filters.refuse(call)
        rows = [row for row in rows if dotted(row["ip_addr"]) == ip]
    if not rows:
        raise Refusal(404, "No addresses found")
    if not filters.requested(call):
        return Answer(data=[render.address(row) for row in rows])
    # A filter sees the number as ip and the dotted form as ip_addr, and leaves ip as the last key.
    seen = [render.address(row, number=True) | {"ip_addr": dotted(row["ip_addr"])} for row in rows]
    left = filters.filtered(seen, call)
    return Answer(data=[_ip_last(row) for row in left])


def _ip_last(row: Row) -> Row:
    ip = row["ip_addr"]
    return {name: value for name, value in row.items() if name not in ("ip", "ip_addr")} | {"ip": ip}


def _found(ipam: PhpIpam, call: Call, word: str) -> list[Row]:
    try:
        requested = ip_network(f"{call.text('id2')}/{call.text('id3')}")
    except ValueError:
        raise Refusal(404, "No subnets found") from None
    rows = [row for row in ipam.subnets.values() if not row["isFolder"]]
    if word == "overlapping":
        rows = [row for row in rows if parse_network(row).overlaps(requested)]
    else:
        rows = [row for row in rows if parse_network(row) == requested]
    if not rows:
        raise Refusal(404, "No subnets found")
    return rows


def _family(ipam: PhpIpam, subnet: Row) -> list[Row]:
    slaves = ipam.slaves(subnet["id"])
    if not slaves:
        raise Unrecorded("slaves_recursive of a subnet without slaves")
    return [subnet, *(each for slave in slaves for each in _branch(ipam, slave))]


def _branch(ipam: PhpIpam, subnet: Row) -> list[Row]:
    return [subnet, *(each for slave in ipam.slaves(subnet["id"]) for each in _branch(ipam, slave))]
