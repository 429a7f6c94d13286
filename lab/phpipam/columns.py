"""The columns of the two tables, the conversion of values for them, and the database errors for invalid values."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lab.phpipam.call import Refusal, Unrecorded

Row = dict[str, Any]
EPOCH = "1970-01-01 00:00:01"


@dataclass(frozen=True)
class Column:
    kind: str = "varchar"
    length: int | None = None
    default: Any = None
    null: bool = True
    choices: tuple[str, ...] = ()
    comment: str = ""
    strict: bool = True
    """Whether a text that is too long is an error; without the strict SQL mode of the database it is cut."""

    @property
    def required(self) -> bool:
        """Whether a new row must have a value; the values of ``id`` and the like come from the server."""
        return not self.null and self.default is None

    @property
    def sql_type(self) -> str:
        if self.kind == "enum":
            return f"enum({','.join(repr(choice) for choice in self.choices)})"
        return self.kind if self.length is None else f"{self.kind}({self.length})"


FLAG = Column("tinyint", 1, 0, null=False)
INT = Column("int", 11)
ADDRESS = {
    "id": INT,
    "subnetId": INT,
    "ip_addr": Column("varchar", 100),
    "is_gateway": FLAG,
    "description": Column("varchar", 64),
    "hostname": Column("varchar", 255),
    "mac": Column("varchar", 20),
    "owner": Column("varchar", 128),
    "state": Column("int", 3, 2),
    "switch": INT,
    "location": INT,
    "port": Column("varchar", 32),
    "note": Column("text"),
    "lastSeen": Column("datetime", None, EPOCH),
    "excludePing": FLAG,
    "PTRignore": FLAG,
    "PTR": Column("int", 11, 0),
    "firewallAddressObject": Column("varchar", 100),
    "editDate": Column("timestamp"),
    "customer_id": INT,
}
# The API names of columns.
API_NAMES = {"switch": "deviceId", "state": "tag", "ip_addr": "ip"}
COLUMN_NAMES = {api: column for column, api in API_NAMES.items()} | {"dns_name": "hostname"}

SUBNET = {
    "id": INT,
    "subnet": Column("varchar", 255),
    "mask": Column("varchar", 3),
    "sectionId": INT,
    "description": Column("text"),
    "linked_subnet": INT,
    "firewallAddressObject": Column("varchar", 100),
    "vrfId": INT,
    "masterSubnetId": Column("int", 11, 0, null=False),
    "allowRequests": FLAG,
    "vlanId": INT,
    "showName": FLAG,
    "device": Column("int", 10, 0),
    "permissions": Column("varchar", 1024),
    "pingSubnet": FLAG,
    "discoverSubnet": FLAG,
    "resolveDNS": FLAG,
    "DNSrecursive": FLAG,
    "DNSrecords": FLAG,
    "nameserverId": Column("int", 11, 0),
    "scanAgent": INT,
    "customer_id": INT,
    "isFolder": FLAG,
    "isFull": FLAG,
    "isPool": FLAG,
    "tag": Column("int", 3, 2),
    "threshold": Column("int", 3, 0),
    "location": INT,
    "editDate": Column("timestamp"),
    "lastScan": Column("timestamp"),
    "lastDiscovery": Column("timestamp"),
}


def sql_error(state: str, text: str) -> Refusal:
    return Refusal(500, f"Error: SQLSTATE[{state}]: {text}")


def duplicate_entry(decimal: int, subnet: int) -> Refusal:
    text = "Integrity constraint violation: 1062 Duplicate entry"
    return sql_error("23000", f"{text} '{decimal}-{subnet}' for key 'sid_ip_unique'")


def convert_value(name: str, value: Any, column: Column, table: str = "ipaddresses") -> Any:
    """The content of the column after ``value`` is written to it. Raises Refusal with the error of the database."""
    if value is None or value is False or value == "":
        if not column.null:
            raise sql_error("23000", f"Integrity constraint violation: 1048 Column '{name}' cannot be null")
        return None
    if isinstance(value, dict | list):
        value = "Array"
    if isinstance(value, float):
        raise Unrecorded(f"a float for {name}")
    text = "1" if value is True else re.sub(r"</?[A-Za-z!][^>]*>", "", str(value))
    match column.kind:
        case "int" | "tinyint":
            return _integer(name, text, table)
        case "enum" if text not in column.choices:
            raise sql_error("01000", f"Warning: 1265 Data truncated for column '{name}' at row 1")
        case "datetime" | "timestamp":
            return _time(name, text, table)
    if column.length is not None and len(text) > column.length:
        if not column.strict:
            return text[: column.length]
        raise sql_error("22001", f"String data, right truncated: 1406 Data too long for column '{name}' at row 1")
    return text


def _integer(name: str, text: str, table: str) -> int:
    try:
        return int(text)
    except ValueError:
        what = f"1366 Incorrect integer value: '{text}' for column `phpipam`.`{table}`.`{name}` at row 1"
        raise sql_error("22007", f"Invalid datetime format: {what}") from None


def _time(name: str, text: str, table: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        what = f"1292 Incorrect datetime value: '{text}' for column `phpipam`.`{table}`.`{name}` at row 1"
        raise sql_error("22007", f"Invalid datetime format: {what}") from None
