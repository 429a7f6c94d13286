"""A phpIPAM simulator, an API server, and a controller with the configuration file of the earlier operator."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.api_server import ApiServer
from lab.phpipam import Server, serve
from lab.processes import Process
from lab.product import CHART, IMAGE, NAMESPACE
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS
from tests.component.controller_process import controller
from tests.component.test_controller import addresses

USER, PASSWORD = "operator", "correct horse"


@dataclass
class Lab:
    api_server: ApiServer
    directory: Path
    phpipam: Server
    subnet: int
    port: int = 0
    url: str = ""
    foreign: list[dict[str, Any]] = field(default_factory=list)
    _serving: AsyncExitStack = field(default_factory=AsyncExitStack)

    @classmethod
    def make(cls, api_server: ApiServer, directory: Path, seed: int = 0, cidr: str = "192.168.100.0/24") -> "Lab":
        phpipam = Server(seed=seed)
        phpipam.add_app("overlay", security="none", permission=2)
        phpipam.add_user(USER, PASSWORD)
        section = phpipam.add_section("Lab")
        network = cidr.rsplit(".", 1)[0]
        subnet = phpipam.add_subnet(section, cidr, gateway=f"{network}.1")
        phpipam.add_address(subnet, f"{network}.2", hostname="printer")
        # The same range in another section, with rows that resemble ours.
        other = phpipam.add_subnet(phpipam.add_section("Elsewhere"), cidr)
        phpipam.add_address(other, f"{network}.3", hostname="node-001")
        lab = cls(api_server, directory, phpipam, subnet)
        lab.foreign = phpipam.rows()
        lab.write_secret(PASSWORD)
        return lab

    def write_secret(self, password: str) -> None:
        folder = self.directory / "secret"
        folder.mkdir(exist_ok=True)
        (folder / "username").write_text(USER)
        (folder / "password").write_text(password)

    async def serve(self) -> None:
        self.url = await self._serving.enter_async_context(serve(self.phpipam, port=self.port))
        self.port = int(self.url.rsplit(":", 1)[1])

    async def stop(self) -> None:
        await self._serving.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.serve()

    def config(self, **settings: Any) -> Path:
        """The overlay-ip-config.yaml of the earlier operator, with additional settings of a test."""
        path = self.directory / "overlay-ip-config.yaml"
        section = {
            "url": self.url,
            "appID": "overlay",
            "subnetMap": {"dal10": [self.subnet]},
            "insecureSkipTLSVerify": True,
        }
        path.write_text(yaml.safe_dump({"phpIPAM": {**section, **settings}}))
        return path

    @asynccontextmanager
    async def controller(self, config: dict[str, Any] | None = None, **settings: str) -> AsyncIterator[Process]:
        defaults = {"lock_wait": "200ms", "timeout": "2s", "credentials_dir": str(self.directory / "secret")}
        path = self.config(**{**defaults, **(config or {})})
        async with controller(self.api_server, path, **settings) as process:
            yield process

    def owned_rows(self) -> dict[str, list[str]]:
        """Node -> addresses of the rows with its owner tag."""
        found: dict[str, list[str]] = {}
        for row in self.phpipam.rows():
            note = row.get("note") or ""
            if "overlay-net cluster=" in note:
                found.setdefault(note.split("node=")[1].split()[0], []).append(row["ip"])
        return found

    def assert_foreign_rows_unchanged(self) -> None:
        foreign = {row["id"] for row in self.foreign}
        assert [row for row in self.phpipam.rows() if row["id"] in foreign] == self.foreign


def grant_pools(api_server: ApiServer) -> None:
    """Install the chart with phpIPAM, so that the controller may write the pools of the subnet map."""
    values = api_server.directory / "phpipam-values.json"
    values.write_text(
        json.dumps({"image": {"repository": IMAGE}, "phpIPAM": {"url": "http://127.0.0.1:1", "appID": "overlay"}})
    )
    api_server.helm(
        "upgrade", "overlay-net", str(CHART), f"--namespace={NAMESPACE}", "--no-hooks", f"--values={values}"
    )


def revoke_pools(api_server: ApiServer) -> None:
    api_server.helm("rollback", "overlay-net", f"--namespace={NAMESPACE}")


async def statuses(api: KubeApi) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item.get("status", {}) for item in (await api.list(NODE_OVERLAY_IPS)).items}


async def assert_consistent(api: KubeApi, lab: Lab) -> None:
    """Assert that every node with an address has exactly one row, at that address, and that we own no other row."""
    shown = await addresses(api)
    assert lab.owned_rows() == {node: [address] for node, address in shown.items()}
    lab.assert_foreign_rows_unchanged()
