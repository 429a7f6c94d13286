"""The ways in which phpIPAM fails in tests, and calls that fail because of them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lab.phpipam import Server
from overlay_net.model.errors import Unavailable
from tests.component.phpipam_support import Bench

Fault = Callable[[Server], None]


def fault(**values: Any) -> Fault:
    def set_faults(server: Server) -> None:
        for name, value in values.items():
            setattr(server.faults, name, value)

    return set_faults


def backend_down(server: Server) -> None:
    server.backend_up = False


def database_down(server: Server) -> None:
    server.database_up = False


def api_off(server: Server) -> None:
    server.api_enabled = False


FAULTS_AND_OUTCOMES = [
    pytest.param(fault(html=1), True, id="502 with an HTML page"),
    pytest.param(backend_down, True, id="502 from the web server"),
    pytest.param(fault(server_error=1), True, id="500 with an empty body"),
    pytest.param(database_down, True, id="the database is down"),
    pytest.param(fault(lose_request=1), True, id="the connection is reset before the call is processed"),
    pytest.param(fault(hang=1), True, id="no response"),
    pytest.param(fault(blocked=True), False, id="the address is blocked"),
    pytest.param(api_off, False, id="the API is disabled"),
]
"""Each fault, and whether a write may have been carried out."""

FAULTS = [pytest.param(each.values[0], id=each.id) for each in FAULTS_AND_OUTCOMES]


async def call_and_fail(lab: Bench, number: int = 1) -> list[Unavailable]:
    """The errors of so many concurrent calls."""
    calls = (lab.client.read_subnet(lab.subnet) for _ in range(number))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Unavailable)]
