"""Starts the simulator as a process for the lab and reads its address table.

`python -m lab.phpipam.process` prints the rows of the running simulator.
"""

import json
import re
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from lab.processes import Process

BIND = "127.0.0.1:8088"
URL = f"http://{BIND}"
APP = "overlay"
USER = {"username": "overlay-net", "password": "not a secret"}
SECRET = "phpipam-secret"

HEADERS = ("SUBNET", "ADDRESS", "HOSTNAME", "DESCRIPTION", "NOTE")
_OWNER_TAG = re.compile(r"overlay-net cluster=\S+ node=(\S+) uid=\S*")
_UID = re.compile(r"([0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    subnet: int
    address: str
    hostname: str
    description: str
    note: str

    @property
    def node(self) -> str | None:
        """The node in the owner tag; None for a row without one."""
        found = _OWNER_TAG.search(self.note)
        return found[1] if found else None

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns of HEADERS, with shortened uids."""
        return str(self.subnet), self.address, self.hostname, self.description, _UID.sub(r"\1…", self.note)


@dataclass(frozen=True, slots=True)
class Calls:
    by_kind: Mapping[str, int]
    """For example "POST addresses/first_free" -> 300."""
    logins: int


class PhpIpamProcess:
    """A running simulator; ``content`` is its seed file without apps and users."""

    def __init__(self, directory: Path, content: JsonObject) -> None:
        # Without TLS only an app with security "none" is served.
        access = {"apps": [{"name": APP}], "users": [{"name": USER["username"], "password": USER["password"]}]}
        seed = directory / "phpipam.json"
        seed.write_text(json.dumps(access | content))
        command = [sys.executable, "-m", "lab.phpipam", f"--bind={BIND}", f"--seed-file={seed}"]
        self.process = Process("phpIPAM", command, log=directory / "phpipam.log")
        try:
            self.process.wait_for(lambda: "serving on" in self.process.log.read_text(), "phpIPAM is serving")
        except BaseException:
            self.close()
            raise

    def rows(self) -> list[Row]:
        return rows()

    def foreign_rows(self) -> list[JsonObject]:
        """The rows without an owner tag, with all columns."""
        return [raw for raw in _fetch("rows") if _parse_row(raw).node is None]

    def calls(self) -> Calls:
        answer = _fetch("calls")
        return Calls(answer["calls"], answer["logins"])

    def close(self) -> None:
        self.process.kill9()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def chart_values(subnet_map: Mapping[str, list[int]], **settings: Any) -> JsonObject:
    """The chart value ``phpIPAM`` for this simulator; ``settings`` are further settings of the controller."""
    return {"url": URL, "appID": APP, "subnetMap": dict(subnet_map), "settings": settings}


def secret(namespace: str) -> JsonObject:
    """The Secret that users create in addition to the chart."""
    metadata = {"name": SECRET, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": USER}


def rows() -> list[Row]:
    """All rows of the running simulator, sorted by subnet and address."""
    return sorted(map(_parse_row, _fetch("rows")), key=lambda row: (row.subnet, int(ip_address(row.address))))


def _fetch(name: str) -> Any:
    with urllib.request.urlopen(f"{URL}/_lab/{name}", timeout=5) as answer:
        return json.load(answer)


def _parse_row(raw: JsonObject) -> Row:
    texts = (raw[name] or "" for name in ("ip", "hostname", "description", "note"))
    return Row(raw["subnetId"], *texts)


def main() -> int:
    table = Table(*HEADERS, box=None)
    for row in rows():
        table.add_row(*row.cells)
    Console(width=None if sys.stdout.isatty() else 180, highlight=False).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
