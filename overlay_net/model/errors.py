"""The closed set of errors into which adapters translate the failures of other systems.

Callers check the type, never a status code. Messages contain no secrets, so they may be logged and shown.
"""

from typing import Self


class OverlayNetError(Exception):
    """Base of all errors that the product raises deliberately.

    ``message`` is the same for every request that fails for the same cause, so it may become part of a condition.
    ``str`` also has the request that failed, for logs.
    """

    request = ""

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else ""

    def during(self, request: str) -> Self:
        """Set the request that failed, and return the error."""
        self.request = request
        return self

    def __str__(self) -> str:
        return f"{self.request}: {self.message}" if self.request else self.message


class ConfigurationError(OverlayNetError):
    """A setting is invalid; the message is one line that names the setting, its value and what is allowed."""


class NotLeader(OverlayNetError):
    """Another process may be the leader: this one must not start a write."""


class ApiError(OverlayNetError):
    """The Kubernetes API server or an IPAM refused or failed a request."""


class NotFound(ApiError):
    """The object or its kind does not exist (HTTP 404): a confirmed absence only for a direct read of one object."""


class AlreadyExists(ApiError):
    """An object of that name exists already (HTTP 409, reason AlreadyExists)."""


class Conflict(ApiError):
    """A precondition (uid, resourceVersion) failed, or another manager owns a field (HTTP 409)."""


class Expired(ApiError):
    """The resourceVersion or continue token is too old: list again (HTTP 410, or an in-stream ERROR 410)."""


class Refused(ApiError):
    """The request can never succeed as it is: invalid, forbidden, unsupported (HTTP 400, 403, 405, 415, 422 ...)."""


class IpamNotConfigured(Refused):
    """No configured IPAM serves the pool: implies nothing about its records."""


class Unavailable(ApiError):
    """The server cannot answer now: connection, timeout, 401, 429, 5xx, a broken stream. Implies nothing about state.

    ``retry_after`` is the delay that the server asked for, in seconds, or None.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CredentialsRefused(Unavailable):
    """The server rejects our credentials: send no requests until they change or a backoff is over."""


class NotPublished(OverlayNetError):
    """No object of the cluster has what was to be read from it; the message has the setting to use instead."""


class SharedClusterId(Refused):
    """Another cluster has the same ID in the IPAM, so this record may be in use there: it must not be released."""


class IpamError(OverlayNetError):
    """Base of the reasons why an IPAM backend cannot provide a reservation."""


class Exhausted(IpamError):
    """The pool has no free address now."""


class AddressTaken(IpamError):
    """The requested address belongs to another owner, or may not be handed out (network, gateway, excluded).

    ``holder`` is the name on the IPAM record if a person may have created or edited it. It is empty if the address is
    another node's for certain, or in quarantine.
    """

    def __init__(self, message: str, *, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class PoolUnusable(IpamError):
    """The pool cannot provide addresses until it is reconfigured; ``reason`` is a condition reason (CamelCase)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class KernelError(OverlayNetError):
    """The kernel refused one netlink request or sysctl write; ``code`` is the positive errno."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
