"""The simulated server: its settings, its counters, and the actions of an administrator."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from lab.phpipam.call import Call
from lab.phpipam.columns import COLUMN_NAMES, Column, Row, convert_value
from lab.phpipam.render import address
from lab.phpipam.subnet_arithmetic import decimal
from lab.phpipam.tables import PERMISSIONS, Tables

BLOCK_SECONDS, TOLERATED_FAILURES = 300, 10


@dataclass
class App:
    name: str
    security: str
    permission: int
    code: str | None
    nest: bool
    lock: str
    lock_wait: float
    links: bool


@dataclass
class User:
    name: str
    password: str
    enabled: bool = True
    groups: bool = True
    token: str | None = None
    expires: float = 0


class Server(Tables):
    """``now`` returns seconds; it determines when tokens and blocks expire, and does not affect waiting."""

    def __init__(self, version: str = "1.8.2", seed: int = 0, now: Callable[[], float] | None = None) -> None:
        super().__init__()
        self.version = tuple(int(part) for part in version.split("."))
        if now is not None:
            self.now = now
        self.chance, self.pace, self.secrets = (random.Random(f"{seed} {use}") for use in ("faults", "pace", "secrets"))
        self.apps: dict[str, App] = {}
        self.users: dict[str, User] = {}
        self.sections: dict[int, Row] = {}
        self.vrfs: dict[int, Row] = {}
        self.vlans: dict[int, Row] = {}
        self.nameservers: dict[int, Row] = {}
        self.tags = {1: "Offline", 2: "Used", 3: "Reserved", 4: "DHCP"}
        self.api_enabled, self.allow_unsafe, self.database_up, self.backend_up = True, True, True, True
        self.link_field: str | None = None
        self.stringify = self.version < (1, 5)
        self.finds_only_lowest_id = self.version == (1, 8, 2)
        """GET addresses/{ip}/{subnetId}/ finds only the row with the lowest id of each subnet."""

        self.calls: Counter[str] = Counter()
        self.bytes_sent = 0
        """Of all response bodies with an envelope."""
        self.logins = 0
        self.failed_logins: list[float] = []
        self.failures: dict[str, tuple[int, float]] = {}
        self.locks: dict[str, asyncio.Lock] = {}
        self.serving = 0
        self.sessions = 0
        self.renew_locks()

    def renew_locks(self) -> None:
        self.locks = {"file": asyncio.Lock(), "mysql": asyncio.Lock()}

    @asynccontextmanager
    async def hold_lock(self, kind: str = "file") -> AsyncIterator[None]:
        """Hold the write lock, as a long write of another client does."""
        async with self.locks[kind]:
            yield

    # Actions of an administrator.

    def add_app(
        self,
        name: str,
        security: str = "none",
        permission: int = 2,
        code: str | None = None,
        nest: bool = False,
        lock: str = "file",
        lock_wait: float = 30,
        links: bool = False,
    ) -> None:
        """``security``: none, ssl_token, ssl_code, crypt or user; ``lock``: auto, file, mysql or off."""
        if (security, lock) not in {(s, o) for s in ("none", "ssl_token", "ssl_code", "crypt", "user") for o in _LOCKS}:
            raise ValueError(f"security {security!r} or lock {lock!r}")
        self.apps[name.lower()] = App(name, security, permission, code, nest, lock, lock_wait, links)

    def add_user(self, name: str, password: str, enabled: bool = True, groups: bool = True) -> None:
        self.users[name] = User(name, password, enabled, groups)

    def set_password(self, name: str, password: str) -> None:
        self.users[name].password = password

    def add_section(self, name: str, description: str = "") -> int:
        identifier = max(self.sections, default=0) + 1
        self.sections[identifier] = {
            "id": identifier,
            "name": name,
            "description": description,
            "masterSection": 0,
            "permissions": PERMISSIONS,
            "strictMode": "1",
            "subnetOrdering": None,
            "order": None,
            "editDate": None,
            "showSubnet": 1,
            "showVLAN": 0,
            "showVRF": 0,
            "showSupernetOnly": 0,
            "DNS": None,
        }
        return identifier

    def add_subnet(
        self,
        section: int,
        cidr: str | None,
        gateway: str | None = None,
        description: str = "",
        is_full: bool = False,
        is_folder: bool = False,
        is_pool: bool = False,
        vrf: int | None = None,
        master: int | None = None,
        **more: Any,
    ) -> int:
        """``more`` are values of other columns, including custom fields. A folder has no cidr."""
        if section not in self.sections:
            raise ValueError(f"no section {section}")
        network = None if is_folder or cidr is None else ip_network(cidr)
        identifier = self.insert_subnet(
            {
                "subnet": str(network.network_address) if network else "0.0.0.0",
                "mask": str(network.prefixlen) if network else None,
                "sectionId": section,
                "description": description or None,
                "isFull": int(is_full),
                "isFolder": int(is_folder),
                "isPool": int(is_pool),
                "vrfId": vrf,
                "masterSubnetId": master or 0,
                **more,
            }
        )
        if gateway is not None:
            self.add_address(identifier, gateway, is_gateway=1)
        return identifier

    def add_address(self, subnet: int, ip: str, **fields: Any) -> int:
        """``fields`` have the names of the API. Raises Refusal if the subnet has the address already."""
        number = decimal(ip)
        if subnet not in self.subnets or number is None:
            raise ValueError(f"subnet {subnet}, address {ip}")
        return self.insert({"subnetId": subnet, "ip_addr": number} | self._parse_fields(fields))

    def add_custom_field(self, name: str, length: int | None = 255, table: str = "addresses", **column: Any) -> None:
        """A text column by default; ``column`` are other attributes of Column. Existing rows have no value."""
        if not name.startswith("custom_"):
            raise ValueError("the column of a custom field must start with custom_")
        self.columns[table][name] = Column(**{"length": length, **column})
        for row in self.subnets.values() if table == "subnets" else self.addresses():
            row[name] = None if column.get("null", True) else ""

    def rows(self, subnet: int | None = None) -> list[Row]:
        """Copies of the addresses, sorted by id, as an app without nested custom fields reads them."""
        return [address(row) for row in sorted(self.addresses(subnet), key=lambda row: int(row["id"]))]

    def edit(self, row: int | Row, **fields: Any) -> None:
        """Edit a row as a person does in the UI; ``fields`` have the names of the API."""
        identifier = row if isinstance(row, int) else int(row["id"])
        if self.find(identifier) is None:
            raise KeyError(identifier)
        self.update(identifier, self._parse_fields(fields) | {"editDate": self.clock()})

    def readdress(self, row: int, ip: str, subnet: int | None = None) -> None:
        """Change the address of a row, or move it to another subnet, as a person does in the UI; the API refuses it."""
        found, number = self.find(row), decimal(ip)
        if found is None or number is None:
            raise KeyError(f"row {row}, address {ip}")
        self.move(row, found["subnetId"] if subnet is None else subnet, number)
        self.update(row, {"editDate": self.clock()})

    def remove(self, row: int | Row) -> None:
        self.delete(row if isinstance(row, int) else int(row["id"]))

    def block(self, source: str = "127.0.0.1") -> None:
        self.failures[source] = (TOLERATED_FAILURES + 1, self.now())

    def unblock(self) -> None:
        self.failures.clear()
        self.faults.blocked = False

    async def allow_race(self, call: Call) -> None:
        """Let another write run here, unless both need the same lock."""
        app = self.apps[str(call.params["app_id"]).lower()]
        unlocked = app.lock == "off" or self.faults.duplicates
        await asyncio.sleep(self.pace.random() * 0.002 if unlocked else 0)

    def _parse_fields(self, fields: Row) -> Row:
        columns = self.columns["addresses"]
        values = {COLUMN_NAMES.get(name, name): value for name, value in fields.items()}
        if unknown := values.keys() - columns.keys() or values.keys() & {"id", "ip_addr", "subnetId"}:
            raise ValueError(f"unknown or read-only columns: {sorted(unknown)}")
        return {name: convert_value(name, value, columns[name]) for name, value in values.items()}


_LOCKS = ("auto", "file", "mysql", "off")
