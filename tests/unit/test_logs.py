"""Log lines as people and as collectors read them."""

import json
import logging
from collections.abc import Iterator

import pytest

from overlay_net.ops.logs import configure


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, product = logging.getLogger(), logging.getLogger("overlay_net")
    before = (root.handlers[:], root.level, product.level)
    yield
    root.handlers[:], level, own = before
    root.setLevel(level)
    product.setLevel(own)


def test_json_lines_carry_their_fields_and_exceptions(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    log = logging.getLogger("overlay_net.test")
    log.info("address %s", "reserved", extra={"node": "n1", "pool": "ü"})
    log.debug("unseen")
    logging.getLogger("aiohttp").info("unseen too")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("broken")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["message"], first["level"], first["node"], first["pool"]) == ("address reserved", "info", "n1", "ü")
    assert "ValueError: why" in second["exception"]


def test_text_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", "text")
    logging.getLogger("overlay_net.test").info("unseen")
    logging.getLogger("overlay_net.test").warning("pool is full", extra={"pool": "p1"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING pool is full pool=p1")
