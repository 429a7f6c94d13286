"""A phpIPAM simulator: its REST API in memory, as recorded from a real server, with failures on demand.

tests/contract/test_phpipam.py checks it against the recordings. A call that was never recorded gets HTTP 599 and is
logged, so the simulator never invents behaviour.
"""

from lab.phpipam.faults import Faults
from lab.phpipam.frontend import serve
from lab.phpipam.server import Server

__all__ = ["Faults", "Server", "serve"]
