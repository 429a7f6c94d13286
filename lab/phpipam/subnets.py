"""The subnets and folders controllers: read calls."""

from ipaddress import ip_network

from lab.phpipam import filters, render
from lab.phpipam.addresses import custom_fields, next_free
from lab.phpipam.call import Answer, Call, Raw, Refusal, Unrecorded
from lab.phpipam.columns import Row
from lab.phpipam.server import Server
from lab.phpipam.subnet_arithmetic import calculation, dotted, parse_network, usage

FIND_WORDS = ("cidr", "search", "overlapping")


def get(server: Server, call: Call) -> Answer:
    first, second = call.text("id"), call.text("id2")
    if first in (None, "all"):
        return _list(server, call, folders=False)
    if first in FIND_WORDS:
        return Answer(data=filters.apply_filter(_find_by_range(server, call, first), call))
    if second == "addresses":
        return _addresses(server, call, str(first))
    filters.reject(call)
    if first == "custom_fields":
        return custom_fields(server, "subnets")
    if second is None:
        return Answer(data=describe_subnet(server, _plain(server, str(first))))
    subnet = _get_numbered_subnet(server, str(first))
    match second:
        case "usage":
            return Answer(data=read_usage(server, subnet), fetched=False)
        case "first_free":
            return Answer(data=_first_free(server, subnet), fetched=False)
        case "slaves":
            slaves = server.slaves(subnet["id"])
            if not slaves:
                raise Refusal(404, "No slaves")
            return Answer(data=slaves)
        case "slaves_recursive":
            return Answer(data=[describe_subnet(server, each) for each in _family(server, subnet)])
        case "changelog" | "first_subnet" | "last_subnet" | "all_subnets" | "permissions":
            raise Unrecorded(f"subnets/{second}")
    raise Refusal(400, "Invalid request")


def get_folders(server: Server, call: Call) -> Answer:
    identifier = call.text("id")
    if identifier is None:
        return _list(server, call, folders=True)
    folder = server.subnets.get(int(identifier)) if identifier.isdigit() else None
    if folder is None or not folder["isFolder"] or "id2" in call.params:
        raise Unrecorded("this call of folders/")
    return Answer(data=folder)


def describe_subnet(server: Server, subnet: Row) -> Row:
    """The object that a read by id returns."""
    result = _with_nameservers(server, subnet)
    gateway = server.gateway(subnet["id"])
    if gateway is not None:
        ip = dotted(gateway["ip_addr"])
        result |= {"gatewayId": gateway["id"], "gateway": {"ip_addr": ip, "id": gateway["id"]}}
    return result | {"calculation": calculation(subnet)}


def _with_nameservers(server: Server, subnet: Row) -> Row:
    number = subnet["nameserverId"]
    return subnet | {"nameservers": server.nameservers[number]} if number else dict(subnet)


def read_usage(server: Server, subnet: Row) -> Row:
    if subnet["isFolder"]:
        raise Unrecorded("usage of a folder")
    slaves = server.slaves(subnet["id"])
    if any(server.slaves(slave["id"]) for slave in slaves):
        raise Unrecorded("usage of a parent of parents")
    rows = [row for slave in slaves or [subnet] for row in server.addresses(slave["id"])]
    return usage(subnet, rows, slaves, server.tags)


def _list(server: Server, call: Call, *, folders: bool) -> Answer:
    members = [user.name for user in server.users.values() if user.groups]
    rows = []
    for subnet in server.subnets.values():
        if bool(subnet["isFolder"]) == folders:
            # A quirk of the server: it uses the id of the subnet as the id of the gateway address.
            row = server.find(subnet["id"])
            gateway = row if row is not None and row["is_gateway"] == 1 else None
            rows.append(render.listed_subnet(_with_nameservers(server, subnet), gateway, members))
    if not rows:
        raise Unrecorded("an empty list of subnets")
    return Answer(data=filters.apply_filter(rows, call))


def _plain(server: Server, identifier: str) -> Row:
    if not identifier.isdigit():
        raise Refusal(404, "Invalid Id")
    subnet = server.subnets.get(int(identifier))
    if subnet is None:
        raise Refusal(400, f"Invalid subnet Id ({identifier})")
    if subnet["isFolder"]:
        raise Refusal(404, "No subnets found")
    return subnet


def _get_numbered_subnet(server: Server, identifier: str) -> Row:
    if not identifier.isdigit():
        raise Refusal(400, f"Subnet Id must be numeric ({identifier})")
    return get_subnet(server, identifier)


def get_subnet(server: Server, identifier: str) -> Row:
    subnet = server.subnets.get(int(identifier)) if identifier.isdigit() else None
    if subnet is None:
        raise Refusal(404, f"Invalid subnet Id ({identifier})")
    return subnet


def _first_free(server: Server, subnet: Row) -> str:
    if server.slaves(subnet["id"]):
        raise Refusal(409, "Subnet contains subnets")
    free = None if subnet["isFull"] else next_free(server, subnet)
    if free is None:
        raise Refusal(404, "No free addresses found")
    return free


def _addresses(server: Server, call: Call, identifier: str) -> Answer:
    subnet, ip = _get_numbered_subnet(server, identifier), call.text("id3")
    rows = server.addresses(subnet["id"])
    if subnet["id"] == server.faults.unreadable_subnet:
        raise Raw(500)
    if ip is not None:
        filters.reject(call)
        rows = [row for row in rows if dotted(row["ip_addr"]) == ip]
    if not rows:
        raise Refusal(404, "No addresses found")
    if not filters.requested(call):
        return Answer(data=[render.address(row) for row in rows])
    # A filter sees the number as ip and the dotted form as ip_addr, and makes ip the last key.
    rows = [render.address(row, number=True) | {"ip_addr": dotted(row["ip_addr"])} for row in rows]
    found = filters.apply_filter(rows, call)
    return Answer(data=[_ip_last(row) for row in found])


def _ip_last(row: Row) -> Row:
    ip = row["ip_addr"]
    return {name: value for name, value in row.items() if name not in ("ip", "ip_addr")} | {"ip": ip}


def _find_by_range(server: Server, call: Call, word: str) -> list[Row]:
    try:
        requested = ip_network(f"{call.text('id2')}/{call.text('id3')}")
    except ValueError:
        raise Refusal(404, "No subnets found") from None
    rows = [row for row in server.subnets.values() if not row["isFolder"]]
    if word == "overlapping":
        rows = [row for row in rows if parse_network(row).overlaps(requested)]
    else:
        rows = [row for row in rows if parse_network(row) == requested]
    if not rows:
        raise Refusal(404, "No subnets found")
    return rows


def _family(server: Server, subnet: Row) -> list[Row]:
    slaves = server.slaves(subnet["id"])
    if not slaves:
        raise Unrecorded("slaves_recursive of a subnet without slaves")
    return [subnet, *(each for slave in slaves for each in _branch(server, slave))]


def _branch(server: Server, subnet: Row) -> list[Row]:
    return [subnet, *(each for slave in server.slaves(subnet["id"]) for each in _branch(server, slave))]
