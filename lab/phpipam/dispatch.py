"""Handles a call: the order of checks, the write lock, the envelope, links, nested custom fields, numbers as text."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from lab.phpipam import address_writes, addresses, render, small_controllers, subnet_writes, subnets
from lab.phpipam.access import authorise, find_app, user_controller
from lab.phpipam.call import (
    ABSENT,
    METHODS,
    SEGMENTS,
    WRITES,
    Answer,
    Call,
    Raw,
    Refusal,
    Unrecorded,
    bad_gateway,
    nginx_page,
    stringify,
)
from lab.phpipam.server import App, Server

READS: dict[str, Callable[[Server, Call], Answer]] = {
    "addresses": addresses.get,
    "subnets": subnets.get,
    "folders": subnets.get_folders,
    "sections": small_controllers.sections,
    "vrfs": small_controllers.vrfs,
    "vlans": small_controllers.vlans,
    "tools": small_controllers.tools,
}
WRITERS: dict[tuple[str, str], Callable[[Server, Call], Awaitable[Answer]]] = {
    ("addresses", "POST"): address_writes.post,
    ("addresses", "PATCH"): address_writes.patch,
    ("addresses", "PUT"): address_writes.patch,
    ("addresses", "DELETE"): address_writes.delete,
    ("subnets", "POST"): subnet_writes.post,
    ("subnets", "PATCH"): subnet_writes.patch,
    ("subnets", "PUT"): subnet_writes.patch,
    ("subnets", "DELETE"): subnet_writes.delete,
    ("folders", "POST"): subnet_writes.post,
}
KNOWN_ONLY_BY_NAME = frozenset({"search", "devices", "groups", "l2domains", "nat", "prefix", "circuits", "customers"})
READ_PARAMETERS = frozenset({"filter_by", "filter_value", "filter_match", "links", "subnetId"})
CONTENT_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded"})


async def answer_call(server: Server, call: Call) -> tuple[int, dict[str, Any], str | None]:
    """(HTTP status, envelope, Location). Raises Raw and Unrecorded."""
    began = time.monotonic()
    if not server.backend_up:
        raise bad_gateway()
    if call.method == "TRACE":
        raise Raw(405, nginx_page("405 Not Allowed"), "text/html", cookie=False)
    if not server.database_up:
        raise Raw(500, cookie=False)
    try:
        answer = await _result(server, call)
    except Refusal as refusal:
        envelope: dict[str, Any] = {"code": refusal.code, "success": refusal.success, "message": refusal.message}
        status = refusal.status
        if status == 404 and server.version < (1, 5):
            # Versions up to 1.4 report "not found" with HTTP 200.
            status, envelope["code"] = 200, 200
        location = "/api//user/" if status == 401 else None
    else:
        envelope, status, location = {"code": answer.code, "success": True}, answer.code, answer.location
        fields = {"message": answer.message, "id": answer.id, "data": answer.data}
        envelope |= {name: value for name, value in fields.items() if value is not None and value is not ABSENT}
    return status, envelope | {"time": round(time.monotonic() - began, 3) or 0}, location


async def _result(server: Server, call: Call) -> Answer:
    app = find_app(server, call)
    _check_content_type_given(server, call)
    call.merge_body()
    if call.method not in METHODS or (call.method == "PUT" and server.version < (1, 5)):
        raise Refusal(501, "Not Implemented")
    if call.controller != "user":
        authorise(server, app, call)
    if call.content_type == "application/xml":
        raise Unrecorded("XML")
    if call.content_type and call.content_type not in CONTENT_TYPES:
        raise Refusal(415, f"Invalid Content type {call.content_type}")
    if call.method == "OPTIONS":
        return small_controllers.options(app, call)
    if call.method in WRITES:
        return await _locked(server, app, call)
    if call.controller == "user":
        return await user_controller(server, app, call)
    if call.controller in KNOWN_ONLY_BY_NAME:
        raise Unrecorded(f"the controller {call.controller}")
    if call.controller not in READS:
        raise Refusal(400, "Invalid controller")
    _reject_unknown_parameters(call)
    return _format(server, app, call, READS[call.controller](server, call))


def _reject_unknown_parameters(call: Call) -> None:
    """Raise Unrecorded for a read with a deeper path or other parameters than the recordings."""
    place = (call.controller, call.text("id"), call.text("id2"))
    deep = place[0] == "subnets" and (place[1] in subnets.FIND_WORDS or place[2] == "addresses")
    known = {*SEGMENTS[: 5 if deep or place[:2] == ("addresses", "tags") else 4], *READ_PARAMETERS}
    if unknown := call.params.keys() - known:
        raise Unrecorded(f"a read with {sorted(unknown)}")


def _check_content_type_given(server: Server, call: Call) -> None:
    if server.version == (1, 7, 4) and not call.content_type:
        raise Refusal(415, "Invalid Content type ")


async def _locked(server: Server, app: App, call: Call) -> Answer:
    """Serialise the writes of all apps that use the same kind of lock."""
    write = _writer(app, call)
    kind = "file" if app.lock == "auto" else app.lock
    if kind == "off" or server.faults.duplicates:
        return await write(server, call)
    lock = server.locks[kind]
    began = time.monotonic()
    try:
        async with asyncio.timeout(app.lock_wait or 3600):
            await lock.acquire()
    except TimeoutError:
        raise lock_timeout(kind, time.monotonic() - began) from None
    try:
        return await write(server, call)
    finally:
        lock.release()


def lock_timeout(kind: str, seconds: float) -> Refusal:
    texts = {
        "file": f"Cannot obtain lock for /tmp/phpipam_api_lock.txt after {seconds:.4f} seconds",
        "mysql": f"MySQL wait timeout exceeded after {seconds:.4f} seconds",
    }
    return Refusal(500, texts[kind], status=200)


def _writer(app: App, call: Call) -> Callable[[Server, Call], Awaitable[Answer]]:
    if call.controller == "user":

        async def user(server: Server, call: Call) -> Answer:
            return await user_controller(server, app, call)

        return user
    if (call.controller, call.method) == ("search", "POST"):
        raise Refusal(501, "Method not implemented", success=True)
    if call.controller in KNOWN_ONLY_BY_NAME:
        raise Unrecorded(f"the controller {call.controller}")
    if call.controller not in READS:
        raise Refusal(400, "Invalid controller")
    if (call.controller, call.method) not in WRITERS:
        raise Unrecorded(f"{call.method} of {call.controller}")
    _unnest(app, call)
    return WRITERS[call.controller, call.method]


def _unnest(app: App, call: Call) -> None:
    """Flatten nested custom fields, which an app that nests them accepts as well."""
    fields = call.params.get("custom_fields")
    if not app.nest or not isinstance(fields, dict):
        return
    del call.params["custom_fields"]
    for name in fields:
        if not name.startswith("custom_"):
            raise Refusal(400, f"{name} is not a valid custom field")
    call.params |= fields


def _format(server: Server, app: App, call: Call, answer: Answer) -> Answer:
    data = answer.data
    if not isinstance(data, dict | list):
        return answer
    as_text = call.headers.get("api-stringify-results") == "1" or server.stringify
    if as_text and (answer.fetched or call.text("id2") == "usage"):
        data = stringify(data)
    if answer.fetched:
        data = _add_links(app, call, data)
        if app.nest:
            data = _nest(server, call, data)
    return Answer(answer.code, data, answer.message, answer.id, answer.location)


def _add_links(app: App, call: Call, data: Any) -> Any:
    requested = call.text("links")
    if requested == "false" or (requested is None and not app.links):
        return data
    name, numbered = str(call.params["app_id"]), str(call.params.get("id", "")).isdigit()
    match call.controller, call.text("id2"):
        case "subnets" | "addresses", None if numbered:
            return render.with_links(data, name, call.controller)
        case "subnets", "addresses" if numbered:
            return [render.with_self_link(row, name, "addresses") for row in data]
    raise Unrecorded("links in this answer")


def _nest(server: Server, call: Call, data: Any) -> Any:
    if call.text("id") == "tags":
        return data
    of_addresses = call.controller == "addresses" or call.text("id2") == "addresses"
    if not of_addresses and call.controller not in ("subnets", "sections"):
        raise Unrecorded("nested custom fields in this answer")
    table = "addresses" if of_addresses else "subnets"
    return render.nest_custom_fields(
        data, {} if call.controller == "sections" else render.custom_fields(server.columns[table])
    )
