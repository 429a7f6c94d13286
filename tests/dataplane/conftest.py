"""Tests of the netlink adapter and the agent with the real kernel, each in its own network namespace."""

from collections.abc import AsyncIterator

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.model.kernel import OwnershipMark
from tests.fakes.netns import eth0, netns

__all__ = ["eth0", "netns"]

MARK = OwnershipMark(117, "overlay-net")
LINKS = ("tmp0", "eth0")
"""The links whose sysctls are observed."""


@pytest.fixture
async def kernel(eth0: None) -> AsyncIterator[Kernel]:
    async with Kernel(MARK) as opened:
        yield opened
