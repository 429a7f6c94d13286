"""Log lines in both formats."""

import fcntl
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from overlay_net.ops.log_writer import BackgroundHandler
from overlay_net.ops.logs import configure


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root, product = logging.getLogger(), logging.getLogger("overlay_net")
    before = (root.handlers[:], root.level, product.level)
    yield
    root.handlers[:], level, own = before
    root.setLevel(level)
    product.setLevel(own)


def written(capfd: pytest.CaptureFixture[str]) -> str:
    logging.getLogger().handlers[0].flush()
    return capfd.readouterr().err


def test_json_lines_have_fields_and_exceptions(capfd: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    log = logging.getLogger("overlay_net.test")
    log.info("address reserved", extra={"node": "n1", "pool": "ü"})
    log.debug("below the level")
    logging.getLogger("aiohttp").info("below the level of libraries")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("broken")
    first, second = map(json.loads, written(capfd).splitlines())
    assert (first["message"], first["level"], first["node"], first["pool"]) == ("address reserved", "info", "n1", "ü")
    assert "ValueError: why" in second["exception"]


def test_text_lines_have_level_message_and_fields(capfd: pytest.CaptureFixture[str]) -> None:
    configure("warning", "text")
    logging.getLogger("overlay_net.test").info("below the level")
    logging.getLogger("overlay_net.test").warning("pool is full", extra={"pool": "p1"})
    (line,) = written(capfd).splitlines()
    assert line.endswith("WARNING pool is full pool=p1")


def test_text_values_with_spaces_quotes_or_line_breaks_are_quoted(capfd: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    extra = {"node": "n1", "error": 'no route to "x"\nretry', "pool": "", "action": "add route", "count": 3}
    logging.getLogger("overlay_net.test").info("kernel changed", extra=extra)
    (line,) = written(capfd).splitlines()
    assert line.endswith(r'kernel changed node=n1 error="no route to \"x\"\nretry" pool="" action="add route" count=3')


LOGS_MUCH = """
import logging
from overlay_net.ops.logs import configure
configure("info", "text")
for number in range(20_000):
    logging.getLogger("overlay_net.test").info("kernel changed", extra={"number": number})
print("not stopped")
"""


def test_process_whose_log_is_not_read_does_not_stop() -> None:
    """As if the disk of the container runtime stalls."""
    with subprocess.Popen(
        [sys.executable, "-c", LOGS_MUCH], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == "not stopped\n"


def test_dropped_lines_are_counted_once_the_log_is_read_again() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    handler = BackgroundHandler(writing, max_lines=10)
    for number in range(1000):
        handler.handle(logging.makeLogRecord({"msg": f"line {number:04} {'x' * 90}"}))
    with os.fdopen(reading) as lines:
        received: list[str] = []
        while not received or not received[-1].startswith("log lines were dropped"):
            received.append(lines.readline())
    assert received[0].startswith("line 0000 ")
    assert 10 < len(received) < 200
    handler.close()
    os.close(writing)
