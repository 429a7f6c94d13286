"""A process whose event loop is stuck ends; one that is only idle does not."""

import asyncio
import faulthandler
import subprocess
import sys

import pytest

from overlay_net.runtime.watchdog import watch_event_loop
from tests.fakes.until import until

STUCK = """
import asyncio, time
from overlay_net.runtime.watchdog import watch_event_loop

def endless_step():
    time.sleep(600)

async def main():
    asyncio.ensure_future(watch_event_loop(0.2))
    await asyncio.sleep(0)
    endless_step()

asyncio.run(main())
"""


def test_a_stuck_event_loop_ends_the_process_and_the_stack_is_printed() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "in endless_step" in done.stderr


async def test_an_idle_event_loop_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded, because on a machine that is paused for a moment the real end would be that of the tests."""
    ends: list[str] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: ends.append("postponed"))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: ends.append("cancelled"))
    task = asyncio.ensure_future(watch_event_loop(0.06))
    await until(lambda: len(ends) >= 8)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ends[-1] == "cancelled"
    assert set(ends[:-1]) == {"postponed"}
