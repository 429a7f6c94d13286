"""A call that never returns, such as one to a stalled disk, keeps neither other threads nor the process waiting."""

import asyncio
import subprocess
import sys
import threading

import pytest

from overlay_net.runtime.daemon_thread import SerialCalls, in_daemon_thread

ENDS = """
import asyncio, os, threading
from overlay_net.runtime.daemon_thread import in_daemon_thread

async def main():
    read, _ = os.pipe()
    started = threading.Event()
    task = asyncio.create_task(in_daemon_thread(lambda: (started.set(), os.read(read, 1))))
    await asyncio.to_thread(started.wait)
    task.cancel()

asyncio.run(main())
print("ended")
"""


def test_process_ends_while_a_call_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("ended\n", "")


async def test_result_and_error_of_a_call_are_returned() -> None:
    assert await in_daemon_thread(int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await in_daemon_thread(int, "seven")


async def test_hanging_calls_occupy_no_thread_that_others_use() -> None:
    release = threading.Event()
    hanging = [asyncio.create_task(in_daemon_thread(release.wait)) for _ in range(100)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(asyncio.to_thread(int, "7"), 20) == 7
    release.set()
    assert all(await asyncio.gather(*hanging))


async def test_a_call_that_takes_long_counts_as_stalled_until_it_returns() -> None:
    changes = asyncio.Queue[bool]()
    calls = SerialCalls(0.01, lambda: changes.put_nowait(calls.stalled))
    release = threading.Event()
    first = asyncio.create_task(calls.call(release.wait))
    async with asyncio.timeout(20):
        assert await changes.get()
        second = asyncio.create_task(calls.call(threading.get_ident))
        await asyncio.sleep(0)
        assert not second.done(), "one call at a time"
        release.set()
        assert await first
        assert not await changes.get()
        await second
