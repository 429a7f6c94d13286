"""phpIPAM as the source of addresses: its REST API with translated errors, and reservations as rows with our mark."""

from overlay_net.adapters.phpipam.circuit_breaker import CircuitBreaker
from overlay_net.adapters.phpipam.client import Client, Observer
from overlay_net.adapters.phpipam.connection import connect_phpipam
from overlay_net.adapters.phpipam.credentials import Credentials, Secret
from overlay_net.adapters.phpipam.ipam import PhpIpam

__all__ = ["CircuitBreaker", "Client", "Credentials", "Observer", "PhpIpam", "Secret", "connect_phpipam"]
