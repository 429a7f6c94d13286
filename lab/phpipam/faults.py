"""How the server, or the way to it, misbehaves."""

from dataclasses import dataclass


@dataclass
class Faults:
    """The floats but ``latency`` are probabilities, one draw for each call. All may be changed at any time."""

    latency: float = 0
    """Seconds before a call is looked at."""
    lose_answer: float = 0
    """A write (not a login) is committed, then the connection is reset without an answer."""
    lose_request: float = 0
    """The connection is reset before anything is done."""
    server_error: float = 0
    """HTTP 500 with an empty body, as after a fatal PHP error; nothing is done."""
    html: float = 0
    """HTTP 502 with the page of the web server in front; nothing is done."""
    lock_timeout: float = 0
    """A write does not get the lock: HTTP 200 with code 500; nothing is done."""
    hang: float = 0
    """No answer until the client gives up; a write is committed all the same."""
    blocked: bool = False
    """Every source address is locked out."""
    duplicates: bool = False
    """Neither locks nor the unique key over (ip_addr, subnetId), as in old versions: an address twice in one subnet."""
