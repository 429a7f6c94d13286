"""The database tables of subnets and addresses."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from lab.phpipam.columns import ADDRESS, SUBNET, Row, duplicate_entry, sql_error
from lab.phpipam.faults import Faults

PERMISSIONS = '{"3":"1","2":"2"}'


class Tables:
    """Rows have the names of the columns and are kept by id; their addresses are numbers."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time
        self.faults = Faults()
        self.columns = {"addresses": dict(ADDRESS), "subnets": dict(SUBNET)}
        self.subnets: dict[int, Row] = {}
        self._addresses: dict[int, dict[int, Row]] = {}
        self._homes: dict[int, int] = {}
        self._last_id = 0
        self._last_subnet = 0

    def clock(self) -> str:
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%d %H:%M:%S")

    def insert_subnet(self, values: Row) -> int:
        self._last_subnet += 1
        row = {name: column.default for name, column in self.columns["subnets"].items()}
        self.subnets[self._last_subnet] = row | {"permissions": PERMISSIONS} | values | {"id": self._last_subnet}
        return self._last_subnet

    def addresses(self, subnet: int | None = None) -> list[Row]:
        """The rows themselves, not copies: those of a subnet sorted by address, or all sorted by id."""
        if subnet is not None:
            return sorted(self._addresses.get(subnet, {}).values(), key=lambda row: (row["ip_addr"], row["id"]))
        return sorted((row for rows in self._addresses.values() for row in rows.values()), key=lambda row: row["id"])

    def taken(self, subnet: int) -> list[int]:
        return [row["ip_addr"] for row in self._addresses.get(subnet, {}).values()]

    def holds(self, subnet: int, number: int | None) -> bool:
        return any(row["ip_addr"] == number for row in self._addresses.get(subnet, {}).values())

    def find(self, identifier: int) -> Row | None:
        home = self._homes.get(identifier)
        return None if home is None else self._addresses[home][identifier]

    def insert(self, values: Row) -> int:
        """Raises Refusal 500 for a second row of an address in a subnet, unless the fault ``duplicates`` is set, and
        for a row without a value of a column that requires one."""
        subnet, number = values["subnetId"], values["ip_addr"]
        if self.holds(subnet, number) and not self.faults.duplicates:
            raise duplicate_entry(number, subnet)
        for name, column in self.columns["addresses"].items():
            if column.required and values.get(name) is None:
                raise sql_error("HY000", f"General error: 1364 Field '{name}' doesn't have a default value")
        if values.get("is_gateway") == 1:
            self._clear_gateway(subnet)
        self._last_id += 1
        defaults = {name: column.default for name, column in self.columns["addresses"].items()}
        self._addresses.setdefault(subnet, {})[self._last_id] = defaults | values | {"id": self._last_id}
        self._homes[self._last_id] = subnet
        return self._last_id

    def update(self, identifier: int, values: Row) -> None:
        row = self.find(identifier)
        if row is None:
            return
        if values.get("is_gateway") == 1 and row["is_gateway"] != 1:
            self._clear_gateway(row["subnetId"])
        row |= values

    def move(self, identifier: int, subnet: int, number: int) -> None:
        """Give a row another address, subnet or both. Raises Refusal 500 if another row has that address."""
        holder = next((row for row in self.addresses(subnet) if row["ip_addr"] == number), None)
        if holder is not None and holder["id"] != identifier:
            raise duplicate_entry(number, subnet)
        row = self._addresses[self._homes[identifier]].pop(identifier)
        self._addresses.setdefault(subnet, {})[identifier] = row | {"subnetId": subnet, "ip_addr": number}
        self._homes[identifier] = subnet

    def delete(self, identifier: int) -> None:
        home = self._homes.pop(identifier, None)
        if home is not None:
            del self._addresses[home][identifier]

    def truncate(self, subnet: int) -> None:
        for row in self.addresses(subnet):
            self.delete(row["id"])

    def slaves(self, subnet: int) -> list[Row]:
        return [row for row in self.subnets.values() if row["masterSubnetId"] == subnet]

    def gateway(self, subnet: int) -> Row | None:
        return next((row for row in self.addresses(subnet) if row["is_gateway"] == 1), None)

    def _clear_gateway(self, subnet: int) -> None:
        for row in self.addresses(subnet):
            if row["is_gateway"] == 1:
                row |= {"is_gateway": 0, "editDate": self.clock()}
