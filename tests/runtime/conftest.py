"""The fixture ``virtual_time``: a loop whose clock jumps to the next timer."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.fakes.virtual_time import VirtualTimeLoop

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def virtual_time() -> Run:
    """Runs one coroutine to completion in virtual time."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(main)

    return run
