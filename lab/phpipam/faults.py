"""Failures of the server and of the network in front of it."""

from dataclasses import dataclass


@dataclass
class Faults:
    """All floats except ``latency`` are probabilities, drawn once per call. They may be changed at any time."""

    latency: float = 0
    """Seconds before a call is processed."""
    lose_response: float = 0
    """A write, other than a login, is committed, and the connection is reset without a response."""
    lose_request: float = 0
    """The connection is reset before the call is processed."""
    server_error: float = 0
    """HTTP 500 with an empty body, as after a fatal PHP error; the call is not processed."""
    html: float = 0
    """HTTP 502 with an HTML page of the web server; the call is not processed."""
    lock_timeout: float = 0
    """A write times out waiting for the lock: HTTP 200 with code 500; it is not processed."""
    hang: float = 0
    """No response until the client disconnects; a write is committed nevertheless."""
    database_error: str = ""
    """HTTP 500 with this message of the database; the call is not processed."""
    failing_subnet: int = 0
    """Id of a subnet whose writes are committed and then end with HTTP 500 and an empty body, as after a fatal PHP
    error in what follows a write, such as PowerDNS or the mail about a threshold."""
    unreadable_subnet: int = 0
    """Id of a subnet whose list of addresses ends with HTTP 500 and an empty body, as when it exceeds PHP's memory."""
    blocked: bool = False
    """All source addresses are blocked."""
    duplicates: bool = False
    """No locks and no unique key (ip_addr, subnetId), as in old versions: a subnet can have an address twice."""
