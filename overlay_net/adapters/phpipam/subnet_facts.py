"""What phpIPAM says of a subnet: its range, the gateway in it, how full it is, and why no address can come from it."""

from overlay_net.adapters.phpipam.client import Client
from overlay_net.adapters.phpipam.rows import number_of
from overlay_net.model.errors import NotFound, PoolUnusable
from overlay_net.model.ipam import PoolFacts, PoolUsage
from overlay_net.model.parse import find_object, parse_address, parse_network, parse_text
from overlay_net.model.pool import Pool


async def inspect_subnet(client: Client, pool: Pool) -> PoolFacts:
    """Three calls. The gateway is the address that phpIPAM marks as one, else ``spec.gateway``; never a guess."""
    subnet = pool.subnet_id or 0
    try:
        raw = await client.subnet(subnet)
    except NotFound as error:
        # Its words for a folder, which later versions do not show as a subnet.
        if "No subnets found" in str(error):
            raise PoolUnusable("Folder", f"phpIPAM subnet {subnet} is a folder, which has no addresses") from None
        raise PoolUnusable("UnknownSubnet", f"phpIPAM has no subnet {subnet}") from None
    name = f"phpIPAM subnet {subnet} ({parse_text(raw.get('description')) or 'no description'})"
    if number_of(raw.get("isFolder")):
        raise PoolUnusable("Folder", f"{name} is a folder, which has no addresses")
    cidr = parse_network(f"{raw.get('subnet')}/{raw.get('mask')}")
    if cidr is None:
        raise PoolUnusable("Invalid", f"{name} is no subnet: {raw.get('subnet')}/{raw.get('mask')}")
    children = await client.children(subnet)
    if children:
        raise PoolUnusable("HasSubnets", f"{name} is divided into {len(children)} subnets: use their ids")
    gateway = parse_address(find_object(raw, "gateway").get("ip_addr")) or pool.spec_gateway
    if gateway is None:
        message = f"{name} {cidr} has no address that is marked as gateway, and spec.gateway is not set"
        raise PoolUnusable("NoGateway", message)
    if gateway not in cidr:
        raise PoolUnusable("NoGateway", f"spec.gateway {gateway} is no address of {name} {cidr}")
    usage = await client.usage(subnet)
    used, free, total = (number_of(usage.get(key)) for key in ("used", "freehosts", "maxhosts"))
    full = bool(number_of(raw.get("isFull")))
    closed = f"{name} is marked as full" if full else ""
    return PoolFacts(cidr, gateway, PoolUsage(used, 0 if full else max(0, free), total), closed)
