"""The product without kubelets: the chart is installed, and its two modes run as processes.

Each process gets what its pod would get: the settings from its ConfigMap, the token of its service account, and, for
an agent, the name and the network of its node and the settings that save memory. Instead of a mounted Secret
with phpIPAM's credentials the controller gets a directory with the same files.
"""

import base64
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from lab.cluster.api_server import ApiServer
from lab.cluster.pki import write_private
from lab.net.vlan import Node
from lab.processes import Process, serves

CHART = Path(__file__).parent.parent / "charts" / "overlay-net"
NAMESPACE = "overlay-net"
IMAGE = "registry.example.com/overlay-net"
WITH_IMAGE = f"--set=image.repository={IMAGE}"
"""The one value that the chart requires, for helm: without kubelets, nothing pulls it."""
CONTROLLER_BIND = "127.0.0.1:8080"
AGENT_BIND = "127.0.0.1:9477"

# Production waits for minutes where a scenario cannot.
SETTINGS: dict[str, Any] = {
    "log": {"format": "text"},
    "http": {"bind": CONTROLLER_BIND},
    "release_after": "2s",
    "fence_after": "4s",
    "status_batch": "100ms",
    "audit_interval": "2s",
    "audit_grace": "3s",
    "leader_election": {"lease_duration": "5s", "renew_deadline": "4s", "retry_period": "400ms"},
}

PRODUCTION: dict[str, Any] = {key: SETTINGS[key] for key in ("log", "http")}
"""The defaults of production."""


class Product:
    def __init__(
        self,
        api_server: ApiServer,
        directory: Path,
        *,
        settings: dict[str, Any] = SETTINGS,
        checkout: Path | None = None,
    ) -> None:
        """``settings`` are those of the controller; ``checkout`` is a directory with another version of the product."""
        self._api_server = api_server
        self._directory = directory
        self._settings = settings
        self._chart = CHART if checkout is None else checkout / "charts" / "overlay-net"
        # Without "safe path" Python would import from the working directory first.
        self._code = {} if checkout is None else {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
        self.controller: Process | None = None
        self.agents: dict[str, Process] = {}
        self.fence_after = str(SETTINGS["fence_after"])
        """Fence time of the agents that are started from now on, which the chart sets in production."""
        self.agent_env: dict[str, str] = {}
        """Additional environment of the agents that are started from now on."""
        self.values: dict[str, Any] = {}
        """Values of the chart at its last installation."""
        self._kubelet: threading.Thread | None = None
        self._closed = threading.Event()
        self.start_seconds = 0.0
        """Seconds from the start of the controller until it was ready."""

    def install(
        self,
        pools: dict[str, Any],
        settings: dict[str, Any] | None = None,
        phpipam: dict[str, Any] | None = None,
    ) -> None:
        """`helm install` with these pools, further controller settings, and phpIPAM values."""
        self.values = {
            "image": {"repository": IMAGE},
            "pools": pools,
            "phpIPAM": phpipam or {},
            "controller": {"settings": {**self._settings, **(settings or {})}},
            "agent": {"settings": {"log": {"format": "text"}, "state_dir": str(self._directory / "state")}},
        }
        self._helm("install", "--create-namespace")

    def upgrade(self, **values: Any) -> None:
        """`helm upgrade` with these values instead of the earlier ones; a process gets them at its next start."""
        self.values |= values
        self._helm("upgrade")
        for mode in ("controller", "agent"):
            self._fetch_settings(mode)

    def _helm(self, command: str, *options: str) -> None:
        file = self._directory / "values.json"
        file.write_text(json.dumps(self.values))
        # Hooks run as pods, which need kubelets.
        where = (f"--namespace={NAMESPACE}", "--no-hooks", f"--values={file}")
        self._api_server.helm(command, "overlay-net", str(self._chart), *where, *options)

    def start_controller(self) -> Process:
        began = time.monotonic()
        self.controller = Process(
            "controller",
            self._command("controller"),
            log=self._directory / "controller.log",
            env={
                "OVERLAY_KUBECONFIG": str(self._identity("controller")),
                "POD_NAME": "overlay-net-controller",
                "POD_NAMESPACE": NAMESPACE,
                **self._mounted(),
                **self._code,
            },
        )
        if self._kubelet is None:
            self._kubelet = threading.Thread(target=self._restart_controller, daemon=True)
            self._kubelet.start()
        self.wait_controller()
        self.start_seconds = time.monotonic() - began
        return self.controller

    def _restart_controller(self) -> None:
        """As a kubelet does: restart a controller that ended because it lost its lease."""
        while not self._closed.wait(0.2):
            controller = self.controller
            if controller is not None and controller.exit_code == 1:
                controller.start()

    def wait_controller(self) -> None:
        assert self.controller is not None
        self.controller.wait_for(lambda: serves(f"http://{CONTROLLER_BIND}/readyz"), "the controller is ready")

    def start_agent(self, node: Node) -> Process:
        agent = Process(
            f"agent on {node.name}",
            self._command("agent"),
            log=self._directory / f"agent-{node.name}.log",
            env={
                "OVERLAY_KUBECONFIG": str(self._identity("agent", node.name)),
                "OVERLAY_NODE_NAME": node.name,
                "OVERLAY_NODE_IP": node.name,
                "OVERLAY_FENCE_AFTER": self.fence_after,
                **self._memory(),
                **self.agent_env,
                **self._code,
            },
            enter=node.enter,
        )
        self.agents[node.name] = agent
        return agent

    def wait_agent(self, node: Node) -> None:
        self.agents[node.name].wait_for(
            lambda: node.call(lambda: serves(f"http://{AGENT_BIND}/readyz")), f"the agent on {node.name} is ready"
        )

    def mount_secret(self) -> Path | None:
        """Write the files of the Secret that the controller's pod would mount; call again after a change."""
        deployment = self._api_server.get("deployment", "overlay-net-controller", f"--namespace={NAMESPACE}")
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        mounted = next((volume["secret"] for volume in volumes if "secret" in volume), None)
        if mounted is None:
            return None
        content = self._api_server.get("secret", mounted["secretName"], f"--namespace={NAMESPACE}")["data"]
        created, current = Path(tempfile.mkdtemp(dir=self._directory)), self._directory / "phpipam-secret"
        for item in mounted["items"]:
            write_private(created / item["path"], base64.b64decode(content[item["key"]]))
        link = created.with_suffix(".link")
        link.symlink_to(created)
        # All files at once: a new user name is never visible together with an old password.
        link.replace(current)
        return current

    def _mounted(self) -> dict[str, str]:
        folder = self.mount_secret()
        return {} if folder is None else {"OVERLAY_PHPIPAM__CREDENTIALS_DIR": str(folder)}

    def close(self) -> None:
        self._closed.set()
        if self._kubelet is not None:
            self._kubelet.join()
        for process in (*self.agents.values(), *((self.controller,) if self.controller else ())):
            process.terminate()

    def _memory(self) -> dict[str, str]:
        """The settings of the agent's pod that save memory."""
        daemon_set = self._api_server.get("daemonset", "overlay-net-agent", f"--namespace={NAMESPACE}")
        (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
        names = ("MALLOC_", "SSL_CERT_FILE")
        return {each["name"]: each["value"] for each in container["env"] if each["name"].startswith(names)}

    def _command(self, mode: str) -> list[str]:
        settings = self._directory / f"{mode}.yaml"
        if not settings.exists():
            self._fetch_settings(mode)
        return [sys.executable, "-m", "overlay_net", mode, f"--config={settings}"]

    def _fetch_settings(self, mode: str) -> None:
        config_map = self._api_server.get("configmap", f"overlay-net-{mode}", f"--namespace={NAMESPACE}")
        (self._directory / f"{mode}.yaml").write_text(config_map["data"]["config.yaml"])

    def _identity(self, mode: str, node: str = "") -> Path:
        return self._api_server.service_account_kubeconfig(NAMESPACE, f"overlay-net-{mode}", node)


def condition_statuses(item: dict[str, Any]) -> dict[str, str]:
    """Type -> status of an object's conditions."""
    found = item.get("status", {}).get("conditions", [])
    return {condition["type"]: condition["status"] for condition in found}
