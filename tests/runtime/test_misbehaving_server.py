"""Reflector and client against a misbehaving server: the store converges, and the server is not flooded."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from overlay_net.adapters.kube import Connection, KubeApi, KubeSource
from overlay_net.adapters.kube.agent_connection import TokenFile
from overlay_net.adapters.kube.errors import parse_retry_after
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ApiError, Expired, Refused, Unavailable
from overlay_net.model.names import STATIC_ROUTES
from overlay_net.runtime.backoff import Backoff
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store
from tests.fakes.misbehaving_api import Answer, MisbehavingApi, event, lines, serving, status
from tests.fakes.until import until

QUICK = Backoff(base=0.01, cap=0.05)


async def anonymous(_: bool) -> str | None:
    return None


@asynccontextmanager
async def following(
    api: MisbehavingApi, authorization: Any = anonymous, **options: Any
) -> AsyncIterator[Store[JsonObject]]:
    """A store that a reflector fills through the real client."""
    async with serving(api), aiohttp.ClientSession() as session:
        client = KubeApi(Connection(api.url, session, authorization))
        store: Store[JsonObject] = Store(dict)
        task = asyncio.create_task(Reflector(KubeSource(client, STATIC_ROUTES, **options), store, QUICK).run())
        try:
            yield store
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def converged(api: MisbehavingApi, store: Store[JsonObject]) -> None:
    def same() -> bool:
        return {name: store.get(name) for name in store.names()} == api.objects

    await until(same, "the store equals the server")


def answer(make: Callable[[], web.Response]) -> Answer:
    async def send(_: web.Request, __: MisbehavingApi) -> web.StreamResponse:
        return make()

    return send


def streaming(*chunks: bytes) -> Answer:
    async def send(request: web.Request, _: MisbehavingApi) -> web.StreamResponse:
        return await lines(request, *chunks)

    return send


async def silent(request: web.Request, _: MisbehavingApi) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await asyncio.sleep(3600)
    return response


async def cut(request: web.Request, _: MisbehavingApi) -> web.StreamResponse:
    """Reset the connection in the middle of a line."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'{"type": "MODIFIED", "obj')
    assert request.transport is not None
    request.transport.abort()
    return response


GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
MISBEHAVIOUR = {
    "410 at the start": answer(lambda: status(410, "Expired", "too old")),
    "410 in the stream": streaming(event("ERROR", GONE)),
    "500 in the stream": streaming(event("ERROR", {"code": 500, "message": "etcd leader changed"})),
    "truncated line": streaming(b'{"type": "MODIFIED", "object": {"metadata": {"na'),
    "garbage": streaming(b"<html>gateway</html>\n"),
    "no object": streaming(b'{"type": "MODIFIED"}\n', b"[]\n", b"null\n"),
    "unknown type": streaming(event("PARTIED", {"metadata": {"name": "x", "resourceVersion": "1"}})),
    "empty": streaming(),
    "silent": silent,
    "reset": cut,
    "429": answer(lambda: status(429, "TooManyRequests", "slow down", Retry_After="0.01")),
    "503": answer(lambda: status(503, "ServiceUnavailable", "starting", Retry_After="0")),
    "html 500": answer(lambda: web.Response(status=500, text="<html>oops</html>", content_type="text/html")),
    "403": answer(lambda: status(403, "Forbidden", "no")),
    "no list": answer(lambda: web.json_response({"message": "maintenance"})),
    "rows without a name": answer(lambda: web.json_response({"metadata": {}, "rows": [{"cells": []}]})),
    "items of another type": answer(lambda: web.json_response({"metadata": {"resourceVersion": "1"}, "items": "none"})),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
async def test_the_store_converges_after_any_misbehaviour(name: str) -> None:
    api = MisbehavingApi()
    api.put("a")
    api.put("b")
    api.watches = [MISBEHAVIOUR[name]] * 3
    async with following(api, silence=0.1) as store:
        await converged(api, store)
        api.put("a", changed=True)
        api.put("c")
        await until(lambda: not api.watches, "all scripted answers were used")
        await converged(api, store)
        assert sorted(store.names()) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["429", "html 500", "403", "410 at the start", "no list", "items of another type"])
async def test_a_failed_list_is_retried_and_removes_no_object(name: str) -> None:
    api = MisbehavingApi()
    api.put("a")
    async with following(api) as store:
        await converged(api, store)
        removed: list[str] = []
        store.subscribe(lambda key, _, new: removed.append(key) if new is None else None)
        before = api.counts["list"]
        api.lists = [MISBEHAVIOUR[name]] * 4
        api.watches = [MISBEHAVIOUR["410 at the start"]]
        await until(lambda: api.counts["list"] >= before + 5, "the list was retried until it succeeded")
        await converged(api, store)
        assert removed == []


@pytest.mark.parametrize("name", ["403", "no list", "items of another type", "rows without a name"])
async def test_names_that_could_not_be_read_are_not_none(name: str) -> None:
    api = MisbehavingApi()
    api.lists = [MISBEHAVIOUR[name]]
    async with serving(api), aiohttp.ClientSession() as session:
        with pytest.raises(ApiError, match=r"list /apis/iks\.ibm\.com/v1alpha1/staticroutes"):
            await KubeApi(Connection(api.url, session, anonymous)).names(STATIC_ROUTES)


async def test_an_object_of_5_mib_is_received() -> None:
    api = MisbehavingApi()
    api.put("a")
    async with following(api) as store:
        await converged(api, store)
        api.put("big", data="x" * 5 * 2**20)
        await converged(api, store)


async def test_a_line_above_the_limit_ends_the_stream_and_the_store_converges() -> None:
    api = MisbehavingApi()
    api.put("a")
    api.watches = [streaming(b"x" * 300_000)] * 2
    async with following(api, max_line=100_000) as store:
        await until(lambda: not api.watches, "both lines were received")
        api.put("b")
        await converged(api, store)


async def test_the_next_watch_starts_at_the_bookmark() -> None:
    api = MisbehavingApi()
    api.put("a")
    versions: list[str] = []

    async def record(request: web.Request, served: MisbehavingApi) -> web.StreamResponse:
        versions.append(request.query["resourceVersion"])
        served.version = 7777
        return await lines(request, event("BOOKMARK", {"metadata": {"resourceVersion": "7777"}}))

    api.watches = [record] * 2
    async with following(api):
        await until(lambda: len(versions) == 2, "two watches were requested")
    assert versions[1] == "7777"


async def test_an_expired_token_is_replaced_once_its_file_is(tmp_path: Path) -> None:
    api = MisbehavingApi()
    api.put("a")
    file = tmp_path / "token"
    file.write_text("old")
    api.token = "old"
    async with following(api, TokenFile(file).authorization) as store:
        await converged(api, store)
        api.token = "new"
        api.put("b")
        before = len(api.requests)
        await until(lambda: len(api.requests) > before + 3, "the old token was rejected")
        assert sorted(store.names()) == ["a"], "a rejected token does not remove objects"
        file.write_text("new")
        await converged(api, store)


async def test_an_expired_page_restarts_the_list() -> None:
    api = MisbehavingApi()
    api.put("a")

    async def first_page(_: web.Request, served: MisbehavingApi) -> web.StreamResponse:
        return web.json_response(
            {"metadata": {"resourceVersion": "1", "continue": "next"}, "items": [{"metadata": {}}]}
        )

    api.lists = [first_page, answer(lambda: status(410, "Expired", "continue token too old"))]
    async with following(api) as store:
        await converged(api, store)
        assert api.counts["list"] == 3


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (lambda: status(410, "Expired", "x"), Expired),
        (lambda: status(422, "Invalid", "spec.subnet: wrong"), Refused),
        (lambda: status(429, "TooManyRequests", "x"), Unavailable),
        (lambda: status(504, "Timeout", "x"), Unavailable),
        (lambda: web.Response(status=302, headers={"Location": "http://192.0.2.1/"}), Unavailable),
        (lambda: web.Response(text="<html>login</html>"), Unavailable),
        (lambda: web.Response(text="[]"), Unavailable),
    ],
)
async def test_errors_are_translated_and_name_the_request(
    response: Callable[[], web.Response], error: type[Exception]
) -> None:
    api = MisbehavingApi()
    api.lists = [answer(response)]

    async def secret(_: bool) -> str | None:
        return "Bearer s3cr3t"

    async with serving(api), aiohttp.ClientSession() as session:
        with pytest.raises(error) as raised:
            await KubeApi(Connection(api.url, session, secret)).get(STATIC_ROUTES, "r1")
    assert "get /apis/iks.ibm.com/v1alpha1/staticroutes/r1" in str(raised.value)
    assert "s3cr3t" not in str(raised.value)


async def test_a_server_that_does_not_answer_times_out() -> None:
    api = MisbehavingApi()
    api.lists = [silent]
    async with serving(api), aiohttp.ClientSession() as session:
        with pytest.raises(Unavailable):
            await KubeApi(Connection(api.url, session, anonymous), timeout=0.1).get(STATIC_ROUTES, "r1")


def test_retry_after_is_parsed_as_seconds_and_as_date() -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert parse_retry_after({"Retry-After": "7"}) == 7
    assert parse_retry_after({"Retry-After": date, "Date": "Wed, 21 Oct 2015 07:27:50 GMT"}) == 10
    assert parse_retry_after({"Retry-After": date, "Date": "Wed, 21 Oct 2015 07:28:10 GMT"}) == 0
    assert parse_retry_after({"Retry-After": date}) is None, "our own clock may differ from that of the server"
    assert parse_retry_after({"Retry-After": "soon", "Date": date}) is None
    assert parse_retry_after({"Date": date}) is None
