"""A phpIPAM server in memory: its REST API as recorded, and the ways in which it fails.

Checked against the recordings of a real server by tests/contract/test_phpipam.py. What was never recorded is answered
with HTTP 599 and logged: nothing here is invented.
"""

from lab.phpipam.faults import Faults
from lab.phpipam.server import serve
from lab.phpipam.state import PhpIpam

__all__ = ["Faults", "PhpIpam", "serve"]
