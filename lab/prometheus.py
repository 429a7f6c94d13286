"""A Prometheus server from a Debian package that scrapes the given targets every second."""

import json
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from lab.build.debian import program, unpack
from lab.cluster.api_server import free_port
from lab.processes import Process


class Prometheus(Process):
    """Keeps its files below ``directory``. Raises PackageUnavailable."""

    url = ""

    @classmethod
    def start_in(cls, directory: Path, targets: Sequence[str], rules: Path) -> Self:
        root = unpack(["prometheus"], print)
        directory.mkdir(exist_ok=True)
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "overlay-net", "static_configs": [{"targets": list(targets)}]}],
        }
        file = directory / "prometheus.yaml"
        file.write_text(yaml.safe_dump(configuration))
        port = free_port()
        command = [
            str(program(root, "prometheus")),
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        server = cls("prometheus", command, log=directory / "prometheus.log")
        server.url = f"http://127.0.0.1:{port}"
        server.wait_for(server.is_ready, "Prometheus is ready", timeout=60)
        return server

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def query(self, expression: str) -> list[Any]:
        """The samples of an instant query; raises urllib.error.HTTPError if it does not parse."""
        found: list[Any] = self._get("query", query=expression)["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> dict[str, str]:
        """Address -> health of each target."""
        return {each["labels"]["instance"]: each["health"] for each in self._get("targets")["activeTargets"]}

    def _get(self, what: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{query}", timeout=10) as response:
            return json.load(response)["data"]
