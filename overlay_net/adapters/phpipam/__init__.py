"""phpIPAM as an IPAM backend: its REST API with translated errors, and reservations as rows with an owner tag."""

from overlay_net.adapters.phpipam.api_session import ApiSession, Observer
from overlay_net.adapters.phpipam.circuit_breaker import CircuitBreaker
from overlay_net.adapters.phpipam.circuit_breakers import CircuitBreakers
from overlay_net.adapters.phpipam.client import Client
from overlay_net.adapters.phpipam.connection import Connection, connect_phpipam
from overlay_net.adapters.phpipam.credentials import Credentials, Secret
from overlay_net.adapters.phpipam.ipam import PhpIpam

__all__ = [
    "ApiSession",
    "CircuitBreaker",
    "CircuitBreakers",
    "Client",
    "Connection",
    "Credentials",
    "Observer",
    "PhpIpam",
    "Secret",
    "connect_phpipam",
]
