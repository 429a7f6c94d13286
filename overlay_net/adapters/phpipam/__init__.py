"""phpIPAM as the source of addresses: its REST API with translated errors, and reservations as rows with our mark."""

from overlay_net.adapters.phpipam.client import Client, Observer
from overlay_net.adapters.phpipam.connection import connect_phpipam
from overlay_net.adapters.phpipam.credentials import Credentials, Secret
from overlay_net.adapters.phpipam.gate import Gate
from overlay_net.adapters.phpipam.ipam import PhpIpam

__all__ = ["Client", "Credentials", "Gate", "Observer", "PhpIpam", "Secret", "connect_phpipam"]
