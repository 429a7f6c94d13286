"""Log lines in both formats."""

import json
import logging
from collections.abc import Iterator

import pytest

from overlay_net.ops.logs import configure


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root, product = logging.getLogger(), logging.getLogger("overlay_net")
    before = (root.handlers[:], root.level, product.level)
    yield
    root.handlers[:], level, own = before
    root.setLevel(level)
    product.setLevel(own)


def test_json_lines_have_fields_and_exceptions(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    log = logging.getLogger("overlay_net.test")
    log.info("address reserved", extra={"node": "n1", "pool": "ü"})
    log.debug("below the level")
    logging.getLogger("aiohttp").info("below the level of libraries")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("broken")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["message"], first["level"], first["node"], first["pool"]) == ("address reserved", "info", "n1", "ü")
    assert "ValueError: why" in second["exception"]


def test_text_lines_have_level_message_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", "text")
    logging.getLogger("overlay_net.test").info("below the level")
    logging.getLogger("overlay_net.test").warning("pool is full", extra={"pool": "p1"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING pool is full pool=p1")


def test_text_values_with_spaces_quotes_or_line_breaks_are_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    extra = {"node": "n1", "error": 'no route to "x"\nretry', "pool": "", "action": "add route", "count": 3}
    logging.getLogger("overlay_net.test").info("kernel changed", extra=extra)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r'kernel changed node=n1 error="no route to \"x\"\nretry" pool="" action="add route" count=3')
