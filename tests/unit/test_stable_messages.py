"""The message of a condition is the same while its cause is: else each failed request would be a write of status."""

import json
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import aiohttp
import pytest

from overlay_net.adapters.kube.errors import parse_error
from overlay_net.adapters.phpipam.circuit_breaker import CircuitBreaker
from overlay_net.adapters.phpipam.responses import parse_response
from overlay_net.controller.ipam import describe_failure
from overlay_net.model.errors import ApiError, OverlayNetError, Unavailable
from overlay_net.runtime.connection_errors import describe_connection_error
from tests.fakes.cluster import Cluster
from tests.fakes.messages import find_unstable
from tests.unit.factories import raw_node, raw_phpipam_pool, raw_pool

REQUESTS = ("GET addresses/search_hostname/n1/", "POST addresses/first_free/7/", "GET subnets/7/usage/")


def answer(status: int, message: str, code: int | None = None) -> tuple[int, bytes]:
    return status, json.dumps({"success": False, "code": code or status, "message": message}).encode()


PHPIPAM = [
    (502, b"<html>Bad Gateway</html>"),
    (504, b""),
    (500, b"<html>Fatal error</html>"),
    answer(500, "Internal error"),
    answer(503, "Service unavailable"),
    answer(503, "API server disabled"),
    answer(400, "Invalid application id"),
    answer(401, "invalid permissions"),
    answer(403, "Token expired"),
    answer(500, "SQLSTATE[HY000]: General error: 1364 Field 'x' doesn't have a default value"),
    answer(500, "Your IP has been blocked for 5 minutes due to authentication failures"),
    (405, b'{"success": true, "code": 405}'),
]

KUBERNETES = [
    (500, {"reason": "InternalError", "message": "etcdserver: request timed out"}),
    (503, {}),
    (429, {"reason": "TooManyRequests", "message": "the server has received too many requests"}),
    (403, {"reason": "Forbidden", "message": "not allowed"}),
    (401, {"reason": "Unauthorized"}),
]


def phpipam_error(response: tuple[int, bytes], request: str) -> OverlayNetError:
    with pytest.raises(OverlayNetError) as failed:
        parse_response(*response, request)
    return failed.value


def check_stable(errors: list[OverlayNetError], requests: tuple[str, ...]) -> None:
    for error, request in zip(errors, requests, strict=True):
        assert str(error).startswith(f"{request}: "), "logs name the request"
        assert not find_unstable(error.message), error.message
    assert len({error.message for error in errors}) == 1
    failures = {describe_failure(error) for error in errors if isinstance(error, ApiError)}
    assert len(failures) == 1


@pytest.mark.parametrize("response", PHPIPAM)
def test_all_requests_that_phpipam_fails_in_one_way_have_one_message(response: tuple[int, bytes]) -> None:
    check_stable([phpipam_error(response, request) for request in REQUESTS], REQUESTS)


@pytest.mark.parametrize(("code", "status"), KUBERNETES)
def test_all_requests_that_the_api_server_fails_in_one_way_have_one_message(code: int, status: dict[str, Any]) -> None:
    requests = (
        "list /apis/iks.ibm.com/v1alpha1/nodeoverlayips",
        "create /apis/iks.ibm.com/v1alpha1/overlayaddresses",
    )
    check_stable([parse_error(code, request, status) for request in requests], requests)


def test_an_open_circuit_breaker_has_the_message_and_not_the_request_that_opened_it() -> None:
    breaker = CircuitBreaker(lambda: 0.0, 1.0)
    failures = set()
    for request in REQUESTS:
        error = phpipam_error(PHPIPAM[0], request)
        assert isinstance(error, Unavailable)
        failures.add(describe_failure(error))
        breaker.record_failure(error, breaker.admit())
    with pytest.raises(Unavailable) as opened:
        breaker.admit()
    assert {describe_failure(opened.value)} == failures
    assert str(opened.value) == opened.value.message


async def connection_error(url: str, **options: Any) -> aiohttp.ClientError:
    # A connection of its own, with its own TLS context, as after a restart.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ssl.create_default_context())) as http:
        with pytest.raises(aiohttp.ClientError) as failed:
            async with http.get(url, **options):
                pass
    return failed.value


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield port


async def test_the_reason_of_a_failed_connection_is_the_same_for_all_attempts(closed_port: int) -> None:
    for host, reason in ((f"127.0.0.1:{closed_port}", "Connection refused"), ("nowhere.invalid", "")):
        reasons = {
            describe_connection_error(await connection_error(f"https://{host}/api/app/{path}/"))
            for path in ("addresses/1", "subnets/7")
        }
        (found,) = reasons
        assert reason in found
        assert not find_unstable(found)
        assert "SSLContext" not in found
        assert str(closed_port) not in found


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "no answer in time"),
        (aiohttp.ConnectionTimeoutError("Connection timeout to host https://10.0.0.1/api/app/x/"), "no answer in time"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (OSError(113, "Connect call failed ('10.0.0.1', 443)"), "No route to host"),
        (aiohttp.ServerDisconnectedError(), "ServerDisconnectedError"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"), "TLS: SSLError"),
    ],
)
def test_a_failed_connection_is_described_without_its_address(error: Exception, reason: str) -> None:
    assert describe_connection_error(error) == reason


async def test_an_outage_of_the_ipam_is_one_status_write_however_many_requests_fail() -> None:
    cluster = await Cluster.start(raw_phpipam_pool(raw_pool()), feed=False)
    await cluster.join(raw_node())
    requests = count()

    def fail() -> None:
        raise phpipam_error(PHPIPAM[0], f"GET addresses/{next(requests)}/")

    controller = await cluster.running()
    controller.ipam_client._reach = fail
    versions = []
    for _ in range(7):
        await controller.run(cluster)
        cluster.now += timedelta(minutes=2)
        controller.requested.add("n1")
        present = await cluster.present_overlay()
        versions.append(present["metadata"]["resourceVersion"])
    assert next(requests) >= 7
    assert len(set(versions)) == 1
    (reserved,) = present["status"]["conditions"]
    assert (reserved["reason"], reserved["message"]) == (
        "IpamUnavailable",
        "phpIPAM: 502 without a response of the phpIPAM API",
    )
