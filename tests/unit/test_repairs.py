"""When the agent reacts to changes of the kernel by other processes."""

import logging

import pytest

from overlay_net.agent.repairs import SETTLE, Repairs
from overlay_net.domain.kernel.repair_damping import LIMIT, WINDOW


def test_few_repairs_are_immediate_and_many_are_delayed_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    delays: list[float] = []
    now = [0.0]
    repairs = Repairs(delays.append, lambda: now[0])
    fields = {"action": "add route", "subnet": "10.1.0.0/16"}
    repairs.schedule()
    for _ in range(LIMIT - 1):
        repairs.record(fields)
    repairs.schedule()
    assert delays == [SETTLE, SETTLE]
    assert not caplog.records
    for _ in range(3):
        repairs.record(fields)
    repairs.schedule()
    assert delays[-1] > SETTLE
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "another process keeps reverting our changes; backing off",
    )
    assert fields.items() <= vars(record).items()
    now[0] = WINDOW
    repairs.schedule()
    assert delays[-1] == SETTLE
