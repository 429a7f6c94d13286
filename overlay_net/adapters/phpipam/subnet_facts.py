"""Reads a subnet from phpIPAM: its range, gateway and usage, and why no address can be allocated from it."""

from typing import Any

from overlay_net.adapters.phpipam.client import Client
from overlay_net.adapters.phpipam.rows import parse_number
from overlay_net.model.errors import NotFound, PoolUnusable
from overlay_net.model.ipam import PoolFacts, PoolUsage
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.parse import find_object, parse_address, parse_network, parse_text
from overlay_net.model.pool import Pool

_FOLDER = "is a folder and has no addresses; use the id of a subnet"


async def inspect_subnet(client: Client, pool: Pool) -> PoolFacts:
    """Read the subnet of a pool with three calls.

    The gateway is the address marked as gateway in phpIPAM, else ``spec.gateway``.

    Raises PoolUnusable if no address can be allocated from the subnet."""
    subnet = pool.subnet_id or 0
    raw = await _read_subnet(client, subnet)
    name = f"phpIPAM subnet {subnet} ({parse_text(raw.get('description')) or 'no description'})"
    if parse_number(raw.get("isFolder")):
        raise PoolUnusable("Folder", f"{name} {_FOLDER}")
    cidr = _parse_cidr(raw, name)
    children = await client.list_children(subnet)
    if children:
        raise PoolUnusable("HasSubnets", f"{name} is divided into {len(children)} subnets; use the id of one of them")
    gateway = _find_gateway(raw, pool, cidr, name)
    usage = await client.read_usage(subnet)
    used, free, total = (parse_number(usage.get(key)) for key in ("used", "freehosts", "maxhosts"))
    full = bool(parse_number(raw.get("isFull")))
    marked_full = f"{name} is marked as full; clear the mark in phpIPAM to allocate from it" if full else ""
    return PoolFacts(cidr, gateway, PoolUsage(used, 0 if full else max(0, free), total), marked_full)


async def _read_subnet(client: Client, subnet: int) -> dict[str, Any]:
    try:
        return await client.read_subnet(subnet)
    except NotFound as error:
        # Later versions do not treat a folder as a subnet, and return this error.
        if "No subnets found" in str(error):
            raise PoolUnusable("Folder", f"phpIPAM subnet {subnet} {_FOLDER}") from None
        raise PoolUnusable("UnknownSubnet", f"phpIPAM has no subnet {subnet}; use the id of an existing one") from None


def _parse_cidr(raw: dict[str, Any], name: str) -> IpNetwork:
    text = f"{raw.get('subnet')}/{raw.get('mask')}"
    cidr = parse_network(text)
    if cidr is None:
        raise PoolUnusable("Invalid", f"{name} has the invalid range {text}; correct it in phpIPAM")
    return cidr


def _find_gateway(raw: dict[str, Any], pool: Pool, cidr: IpNetwork, name: str) -> IpAddress:
    gateway = parse_address(find_object(raw, "gateway").get("ip_addr")) or pool.spec_gateway
    if gateway is None:
        fix = "mark its gateway address in phpIPAM or set spec.gateway"
        raise PoolUnusable("NoGateway", f"{name} {cidr} has no gateway; {fix}")
    if gateway not in cidr:
        raise PoolUnusable("NoGateway", f"spec.gateway {gateway} is not an address of {name} {cidr}; correct it")
    return gateway
