"""Describes why no answer came, without what differs between attempts: addresses, ports and ids of Python objects."""

import errno
import os
import socket
import ssl


def describe_connection_error(error: Exception) -> str:
    """Return the reason in the words of the operating system or of OpenSSL, or the type of the error."""
    # Errors of aiohttp wrap that of the operating system or of OpenSSL.
    for wrapped in ("certificate_error", "os_error"):
        error = getattr(error, wrapped, error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'reason', None) or type(error).__name__}"
    if isinstance(error, socket.gaierror):
        # Its numbers are not those of errno.
        return error.strerror or "the host name cannot be resolved"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in errno.errorcode:
        return os.strerror(number)
    return type(error).__name__
