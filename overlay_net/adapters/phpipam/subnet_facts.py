"""Reads a subnet from phpIPAM: its range, gateway and usage, and why no address can be allocated from it."""

from dataclasses import replace
from typing import Any

from overlay_net.adapters.phpipam.client import Client
from overlay_net.adapters.phpipam.rows import parse_number
from overlay_net.adapters.phpipam.subnet_rows import SubnetRows
from overlay_net.domain.allocation.pool_addresses import capacity, count_usable
from overlay_net.model.errors import NotFound, PoolUnusable
from overlay_net.model.ipam import PoolFacts, PoolUsage
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.parse import find_object, parse_address, parse_network, parse_text
from overlay_net.model.pool import Pool

_FOLDER = "is a folder and has no addresses; use the id of a subnet"


def must_choose(pool: Pool) -> bool:
    """Return whether phpIPAM's first_free may return an address that the pool does not hand out."""
    # The lowest address of an IPv6 subnet is the Subnet-Router anycast address (RFC 4291, 2.6.1).
    anycast = pool.cidr is not None and pool.cidr.version == 6 and pool.cidr.prefixlen < 127
    return anycast or bool(pool.exclude or pool.other_gateways)


async def inspect_subnet(client: Client, rows: SubnetRows, pool: Pool) -> PoolFacts:
    """Read the subnet of a pool with three calls, and its rows with one more if addresses are chosen here and the
    number of rows has changed.

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
    full = bool(parse_number(raw.get("isFull")))
    resolved = replace(pool, cidr=cidr, gateway=gateway)
    marked = parse_address(find_object(raw, "gateway").get("ip_addr")) == gateway
    chosen = not marked or bool(parse_number(raw.get("isPool"))) or must_choose(resolved)
    if chosen:
        rows.choose(subnet)
    rows.mark_full(subnet, full)
    usage = await client.read_usage(subnet)
    total = capacity(resolved)
    if full:
        free, message = 0, f"{name} is marked as full; clear the mark in phpIPAM to allocate from it"
    elif chosen:
        known = await rows.compare(subnet, parse_number(usage.get("used")))
        free, message = total - count_usable(resolved, known.taken), ""
    else:
        # phpIPAM counts what it hands out: all but the rows, one of which is that of the gateway.
        free, message = min(total, max(0, parse_number(usage.get("freehosts")))), ""
    return PoolFacts(cidr, gateway, PoolUsage(total - free, free, total), message)


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
