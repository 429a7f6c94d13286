"""The queue: a key is queued once, processed by one worker at a time, and never lost."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from overlay_net.runtime.backoff import Backoff
from overlay_net.runtime.workqueue import WorkQueue
from tests.examples import examples
from tests.fakes.virtual_time import VirtualTimeLoop
from tests.runtime.conftest import Run


def test_a_key_that_is_added_repeatedly_is_queued_once(virtual_time: Run) -> None:
    async def main() -> None:
        queue = WorkQueue()
        for _ in range(5):
            queue.add("a")
        queue.add("b")
        assert [await queue.get(), await queue.get()] == ["a", "b"]
        assert len(queue) == 0

    virtual_time(main())


def test_a_key_added_while_it_is_processed_is_processed_again_afterwards(virtual_time: Run) -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add("a")
        key = await queue.get()
        queue.add("a")
        assert len(queue) == 0, "one worker per key"
        queue.done(key)
        assert await queue.get() == "a"

    virtual_time(main())


def test_the_earliest_due_time_counts_and_an_immediate_add_cancels_delays(virtual_time: Run) -> None:
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
        assert await queue.get() == "b", "the delayed add of a was cancelled"

    virtual_time(main())


def test_delays_grow_with_failures_and_a_success_resets_them(virtual_time: Run) -> None:
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
        assert queue.retry("b", at_least=30) >= 30, "at_least is a lower bound"

    virtual_time(main())


def test_jitter_spreads_clients_that_failed_together() -> None:
    delays = {Backoff(base=8).delay(1, random_=random.Random(seed)) for seed in range(50)}
    assert len(delays) == 50


T = TypeVar("T")


class Queue(RuleBasedStateMachine):
    """Any order of add, add_after, get and done, compared with a simple model: the set of keys to be processed."""

    keys = st.sampled_from("abc")

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.queue = self._run(self._make())
        self.pending: set[str] = set()
        self.delayed: dict[str, float] = {}
        self.processing: set[str] = set()

    async def _make(self) -> WorkQueue:
        return WorkQueue()

    def _run(self, main: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(main)

    @rule(key=keys)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.pending.add(key)
        self.delayed.pop(key, None)

    @rule(key=keys, seconds=st.integers(1, 9))
    def add_after(self, key: str, seconds: int) -> None:
        async def main() -> None:
            self.queue.add_after(key, seconds)

        self._run(main())
        due = self.loop.time() + seconds
        if key not in self.pending or key in self.processing:
            self.delayed[key] = min(due, self.delayed.get(key, due))

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self._run(asyncio.sleep(seconds))
        for key in [key for key, due in self.delayed.items() if due <= self.loop.time()]:
            del self.delayed[key]
            self.pending.add(key)

    @rule()
    def get(self) -> None:
        ready = self.pending - self.processing
        assert len(self.queue) == len(ready)
        if ready:
            key = self._run(self.queue.get())
            assert key in ready
            self.pending.discard(key)
            self.processing.add(key)

    @rule(key=keys)
    def done(self, key: str) -> None:
        if key in self.processing:
            self.queue.done(key)
            self.processing.discard(key)

    def teardown(self) -> None:
        self.loop.close()


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=examples(200), stateful_step_count=40, deadline=None)
