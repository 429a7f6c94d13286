"""Where the nodes get their addresses from: a pool that the cluster keeps, or a subnet in phpIPAM."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from lab.cluster.api_server import ApiServer
from lab.manifests import ZONE
from lab.net import vlan
from lab.phpipam import process as phpipam
from lab.phpipam.process import PhpIpamProcess
from lab.product import NAMESPACE, Product
from overlay_net.model.names import OVERLAY_ADDRESSES

Kind = Literal["cluster", "phpipam"]
KINDS: tuple[Kind, ...] = ("cluster", "phpipam")
SUBNET_ID = 2

# The first subnet belongs to another site and overlaps: it has a record of an address that a node gets here.
BRANCH = "192.168.100.0/25"
CONTENT: dict[str, Any] = {
    "sections": [{"name": "Branch"}, {"name": "Lab"}],
    "subnets": [
        {"section": "Branch", "cidr": BRANCH, "description": "branch office"},
        {"section": "Lab", "cidr": vlan.OVERLAY_SUBNET, "description": "overlay addresses"},
    ],
    "addresses": [
        {"subnet": subnet, "ip": ip, "hostname": hostname, "description": description, **more}
        for subnet, ip, hostname, description, more in (
            (BRANCH, "192.168.100.3", "branch-nas", "storage", {}),
            (vlan.OVERLAY_SUBNET, vlan.OVERLAY_GATEWAY, "edge-1", "gateway", {"is_gateway": 1}),
            (vlan.OVERLAY_SUBNET, vlan.OTHER_OVERLAY_GATEWAY, "edge-2", "second gateway", {}),
            (vlan.OVERLAY_SUBNET, "192.168.100.2", "printer-7", "printer, third floor", {"note": "lease ends in June"}),
            (vlan.OVERLAY_SUBNET, "192.168.100.5", "badge-reader", "do not touch", {"tag": 3}),
        )
    ],
}


class AddressSource(Protocol):
    def install(self, product: Product) -> None:
        """Install the product with this source."""

    def reserved(self) -> dict[str, str]:
        """Reserved address -> node."""

    def used(self) -> int:
        """How many addresses of the pool are in use, including those of others."""

    def foreign_records(self) -> list[dict[str, Any]]:
        """Records that the product does not manage and must not change."""

    def table(self) -> tuple[str, Sequence[str], Sequence[Sequence[str]]] | None:
        """Title, headers and rows of what is recorded outside the cluster."""


class ClusterSource:
    def __init__(self, api_server: ApiServer) -> None:
        self._api_server = api_server

    def install(self, product: Product) -> None:
        pool = {
            "cidr": vlan.OVERLAY_SUBNET,
            "gateway": vlan.OVERLAY_GATEWAY,
            "exclude": [vlan.OTHER_OVERLAY_GATEWAY],
        }
        product.install({"onprem": pool})

    def reserved(self) -> dict[str, str]:
        items = self._api_server.read_all(OVERLAY_ADDRESSES)
        return {item["spec"]["address"]: item["spec"]["node"] for item in items}

    def used(self) -> int:
        return len(self.reserved())

    def foreign_records(self) -> list[dict[str, Any]]:
        return []

    def table(self) -> None:
        return None


class PhpIpamSource:
    def __init__(self, api_server: ApiServer, server: PhpIpamProcess) -> None:
        self._api_server = api_server
        self._server = server

    def install(self, product: Product) -> None:
        product.install({}, phpipam=phpipam.chart_values({ZONE: [SUBNET_ID]}, refresh_interval="500ms"))
        self._api_server.apply(phpipam.secret(NAMESPACE))

    def reserved(self) -> dict[str, str]:
        return {
            row.address if row.subnet == SUBNET_ID else f"{row.address} in subnet {row.subnet}": row.node
            for row in self._server.rows()
            if row.node is not None
        }

    def used(self) -> int:
        rows = (row for row in self._server.rows() if row.subnet == SUBNET_ID)
        return sum(row.address != vlan.OVERLAY_GATEWAY for row in rows)

    def foreign_records(self) -> list[dict[str, Any]]:
        return self._server.foreign_rows()

    def table(self) -> tuple[str, Sequence[str], Sequence[Sequence[str]]]:
        return "addresses in phpIPAM", phpipam.HEADERS, [row.cells for row in self._server.rows()]
