"""The closed set of errors that adapters translate foreign failures into.

Callers decide by type, never by a foreign status code. The message is safe to show to a person.
"""


class OverlayNetError(Exception):
    """Base of every error that the product raises on purpose."""


class ConfigurationError(OverlayNetError):
    """A setting is impossible; the message is one line that names the setting, its value and what is allowed."""


class NotLeader(OverlayNetError):
    """Another process may lead: this one must not begin a write."""


class ApiError(OverlayNetError):
    """A server, the Kubernetes API or an IPAM, refused or failed a request."""


class NotFound(ApiError):
    """The object or its kind does not exist: a confirmed absence only on a direct read of one object (HTTP 404)."""


class AlreadyExists(ApiError):
    """A create met an object of the same name (HTTP 409, reason AlreadyExists)."""


class Conflict(ApiError):
    """A precondition (uid, resourceVersion) or a field ownership did not hold (HTTP 409)."""


class Expired(ApiError):
    """The resourceVersion or continue token is too old: list again (HTTP 410, or an in-stream ERROR 410)."""


class Refused(ApiError):
    """The request can never succeed as it is: invalid, forbidden, unsupported (HTTP 400, 403, 405, 415, 422 ...)."""


class Unavailable(ApiError):
    """The server cannot answer now: connection, time-out, 401, 429, 5xx, a broken stream. Says nothing about state.

    ``retry_after`` is what the server asked for, in seconds, or None.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CredentialsRefused(Unavailable):
    """The server does not accept who we are: nothing is asked any more until the credentials change, or for a while."""


class IpamError(OverlayNetError):
    """Base of what an IPAM backend can answer instead of a reservation."""


class Exhausted(IpamError):
    """The pool has no free address now; temporary, and no fault of the node."""


class AddressTaken(IpamError):
    """The wanted address belongs to somebody else, or may not be handed out (network, gateway, excluded).

    ``holder`` names who has it in the IPAM where its record carries no mark of any cluster: a person's own entry, or
    one that a person edited. It is empty where another node has it.
    """

    def __init__(self, message: str, *, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class PoolUnusable(IpamError):
    """No address can come from the pool until somebody changes something; ``reason`` is CamelCase, for a condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class KernelError(OverlayNetError):
    """The kernel refused one netlink request or sysctl write; ``code`` is the positive errno."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
