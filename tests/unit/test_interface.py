"""What is asked about a link if the process or the node has no file descriptor left."""

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address

import pytest

from overlay_net.adapters.neighbours.interface import hardware_address, is_running, require_address
from overlay_net.model.errors import KernelError


@contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "ask",
    [partial(is_running, "lo"), partial(hardware_address, "lo"), partial(require_address, IPv4Address("127.0.0.1"))],
    ids=["carrier", "MAC", "address"],
)
def test_the_answer_is_unknown_so_that_repairs_go_on(ask: Callable[[], object]) -> None:
    with pytest.raises(KernelError, match="Too many open files") as raised, no_descriptors():
        ask()
    assert raised.value.code == errno.EMFILE
