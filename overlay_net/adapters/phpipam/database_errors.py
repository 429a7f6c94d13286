"""Errors of phpIPAM's database in its responses, and whether another attempt may succeed."""

import re
from dataclasses import dataclass

# "SQLSTATE[HY000]: General error: 1364 Field ..." of a statement, "SQLSTATE[HY000] [2002] ..." of a connection.
_SQL_ERROR = re.compile(r"SQLSTATE\[(\w{5})\](?::[^:]*: (\d+) | \[(\d+)\])?")
_OWN_KEY = re.compile(r"for key '(?:\w+\.)?(?:sid_ip_unique|PRIMARY)'")

_DUPLICATE_ENTRY = 1062
_CONNECTION_EXCEPTION, _ROLLBACK = "08", "40"
"""SQLSTATE classes (ISO/IEC 9075-2)."""
_QUERY_KILLED = "70100"
# The error numbers are those of MySQL and MariaDB, from their references of server errors.
_CONTENTION = frozenset(
    [
        1020,  # record changed since the last read
        1205,  # lock wait timeout
        1206,  # too many locks
        1213,  # deadlock
        1412,  # table changed during the transaction
        3024,  # statement took too long
        3101,  # rolled back by group replication
    ]
)
_OUTAGE = frozenset(
    [
        1037,  # out of memory
        1038,  # out of sort memory
        1040,  # too many connections
        1041,  # out of memory
        1203,  # too many connections of this user
        1226,  # too many queries of this user in this hour
        1290,  # read-only, as during a failover
        1836,  # read-only, as during a failover
        4031,  # disconnected because of inactivity
    ]
)
_CLIENT_CODES = range(2000, 3000)
"""Numbers of the client library: the connection could not be made or was lost."""


@dataclass(frozen=True, slots=True)
class DatabaseError:
    """``code`` is the number of the database server's or client's error; 0 if there is none."""

    state: str
    code: int
    lost_race: bool
    """Another row has the address or id already."""

    @property
    def is_contention(self) -> bool:
        """Return whether the statement failed because of others, so that another attempt may succeed."""
        return self.state.startswith(_ROLLBACK) or self.state == _QUERY_KILLED or self.code in _CONTENTION

    @property
    def is_outage(self) -> bool:
        """Return whether the database cannot serve any statement of this kind for now."""
        return self.state.startswith(_CONNECTION_EXCEPTION) or self.code in _OUTAGE or self.code in _CLIENT_CODES


def find_database_error(message: str) -> DatabaseError | None:
    """Find the error of a database in a message of phpIPAM, whose words around it are translated."""
    found = _SQL_ERROR.search(message)
    if found is None:
        return None
    code = int(found[2] or found[3] or 0)
    return DatabaseError(found[1], code, code == _DUPLICATE_ENTRY and _OWN_KEY.search(message) is not None)
