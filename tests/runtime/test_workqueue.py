"""The queue's promises: a key waits once, is worked on by one at a time, and is never forgotten."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from overlay_net.runtime.backoff import Backoff
from overlay_net.runtime.workqueue import WorkQueue
from tests.fakes.virtual_time import VirtualTimeLoop
from tests.runtime.conftest import Run


def test_a_key_that_is_added_often_waits_once(virtual_time: Run) -> None:
    async def main() -> None:
        queue = WorkQueue()
        for _ in range(5):
            queue.add("a")
        queue.add("b")
        assert [await queue.get(), await queue.get()] == ["a", "b"]
        assert len(queue) == 0

    virtual_time(main())


def test_a_key_added_while_it_is_worked_on_is_worked_on_again_afterwards(virtual_time: Run) -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add("a")
        key = await queue.get()
        queue.add("a")
        assert len(queue) == 0, "never two workers on one key"
        queue.done(key)
        assert await queue.get() == "a"

    virtual_time(main())


def test_the_earliest_time_wins_and_now_beats_later(virtual_time: Run) -> None:
    async def main() -> None:
        queue, loop = WorkQueue(), asyncio.get_running_loop()
        queue.add_after("a", 100)
        queue.add_after("a", 10)
        queue.add_after("a", 50)
        assert await queue.get() == "a"
        assert loop.time() == 10
        queue.done("a")
        queue.add_after("a", 100)
        queue.add("a")
        assert await queue.get() == "a"
        assert loop.time() == 10
        queue.done("a")
        queue.add_after("b", 500)
        assert await queue.get() == "b", "the delayed add of a key that was added at once is spent"

    virtual_time(main())


def test_failures_wait_longer_and_longer_and_success_starts_anew(virtual_time: Run) -> None:
    async def main() -> None:
        queue = WorkQueue(Backoff(base=1, cap=60))
        delays = []
        for _ in range(10):
            delays.append(queue.retry("a"))
            assert await queue.get() == "a"
            queue.done("a")
        for number, delay in enumerate(delays):
            full = min(60, 2**number)
            assert full / 2 <= delay <= full
        queue.forget("a")
        assert queue.retry("a") <= 1
        assert queue.retry("b", at_least=30) >= 30, "what the server asked for is the least"

    virtual_time(main())


def test_jitter_spreads_clients_that_failed_together() -> None:
    delays = {Backoff(base=8).delay(1, random_=random.Random(seed)) for seed in range(50)}
    assert len(delays) == 50


T = TypeVar("T")


class Queue(RuleBasedStateMachine):
    """Any order of adds, delays, gets and dones against the simplest model: the set of keys that still owe a visit."""

    keys = st.sampled_from("abc")

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.queue = self._run(self._make())
        self.owed: set[str] = set()
        self.delayed: dict[str, float] = {}
        self.working: set[str] = set()

    async def _make(self) -> WorkQueue:
        return WorkQueue()

    def _run(self, main: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(main)

    @rule(key=keys)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.owed.add(key)
        self.delayed.pop(key, None)

    @rule(key=keys, seconds=st.integers(1, 9))
    def add_after(self, key: str, seconds: int) -> None:
        async def main() -> None:
            self.queue.add_after(key, seconds)

        self._run(main())
        due = self.loop.time() + seconds
        if key not in self.owed or key in self.working:
            self.delayed[key] = min(due, self.delayed.get(key, due))

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self._run(asyncio.sleep(seconds))
        for key in [key for key, due in self.delayed.items() if due <= self.loop.time()]:
            del self.delayed[key]
            self.owed.add(key)

    @rule()
    def get(self) -> None:
        ready = self.owed - self.working
        assert len(self.queue) == len(ready)
        if ready:
            key = self._run(self.queue.get())
            assert key in ready
            self.owed.discard(key)
            self.working.add(key)

    @rule(key=keys)
    def done(self, key: str) -> None:
        if key in self.working:
            self.queue.done(key)
            self.working.discard(key)

    def teardown(self) -> None:
        self.loop.close()


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
