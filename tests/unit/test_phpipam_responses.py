"""phpIPAM responses, rows, and the owner tag among other text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.adapters.phpipam.owner_tag import cluster_filter, encode_owner, find_owner, with_owner_tag
from overlay_net.adapters.phpipam.request import parse_list
from overlay_net.adapters.phpipam.responses import (
    AddressRefused,
    NothingFound,
    RequestFailed,
    ResponseLost,
    TokenRefused,
    parse_response,
)
from overlay_net.adapters.phpipam.rows import Row
from overlay_net.model.errors import (
    Conflict,
    CredentialsRefused,
    Exhausted,
    NotFound,
    OverlayNetError,
    Refused,
    Unavailable,
)
from overlay_net.model.ipam import Owner

REQUEST = "GET subnets/7/"


def failure(code: int, message: str, **more: Any) -> bytes:
    return json.dumps({"code": code, "success": False, "message": message, "time": 0.01, **more}).encode()


DUPLICATE = "Error: SQLSTATE[23000]: Integrity constraint violation: 1062 Duplicate entry '7-7' for key 'sid_ip_unique'"
TOO_LONG = "Error: SQLSTATE[22001]: String data, right truncated: 1406 Data too long for column 'note' at row 1"


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (400, "Invalid application id", CredentialsRefused),
        (503, "Application disabled", CredentialsRefused),
        (503, "SSL connection is required for API", CredentialsRefused),
        (503, "Invalid enc_request", CredentialsRefused),
        (503, "Invalid app security", CredentialsRefused),
        (503, "API server disabled", Unavailable),
        (401, "Unauthorized", TokenRefused),
        (403, "Invalid token", TokenRefused),
        (403, "Token expired", TokenRefused),
        (403, "Please provide token", TokenRefused),
        (401, "invalid permissions", Refused),
        (500, "Your IP has been blocked for 5 minutes because of excessive login failures", Unavailable),
        (500, "Invalid username or password", RequestFailed),
        (400, "Invalid controller", Refused),
        (415, "Invalid Content type application/octet-stream", Refused),
        (400, "Invalid JSON: Syntax error", Refused),
        (400, "Invalid request key custom_x", Refused),
        (400, "Invalid filter_by", Refused),
        (501, "Not Implemented", Refused),
        (400, "Invalid subnet Id (7)", NotFound),
        (404, "Invalid subnet Id (7)", NotFound),
        (404, "Invalid subnet Id", NotFound),
        (400, "Invalid subnet identifier", NotFound),
        (404, "Section does not exist", NotFound),
        (404, "Invalid Id", NotFound),
        (404, "Address does not exist", NotFound),
        (404, "No subnets found", NotFound),
        (404, "No free addresses found", Exhausted),
        (404, "No free addresses found (subnet is full)", Exhausted),
        (404, "No addresses found", NothingFound),
        (404, "No results (filter applied)", NothingFound),
        (404, "No slaves", NothingFound),
        (404, "Hostname not found", NothingFound),
        (404, "Address not found", NothingFound),
        (409, "IP address already exists", Conflict),
        (500, DUPLICATE, Conflict),
        (500, "192.168.100.0 is not a valid address for subnet 192.168.100.0/24", AddressRefused),
        (400, "Tag does not exist", Refused),
        (400, "IP address cannot be changed", Refused),
        (500, TOO_LONG, Refused),
        (500, "Error: Missing primary key", RequestFailed),
        (503, "Transaction timed out after 30 seconds because of transaction lock", Unavailable),
    ],
)
def test_api_failure_is_translated_and_its_message_kept(
    status: int, message: str, error: type[OverlayNetError]
) -> None:
    with pytest.raises(error) as raised:
        parse_response(status, failure(status, message), REQUEST)
    assert type(raised.value) is error
    # The message becomes that of a condition, which is the same for all requests; logs have the request as well.
    assert REQUEST not in raised.value.message
    assert str(raised.value) == f"{REQUEST}: {raised.value.message}"
    server_failed = isinstance(raised.value, Unavailable | TokenRefused)
    assert (message.replace(" after 30 seconds", "") if server_failed else message) in raised.value.message


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("No free addresses found", Exhausted),
        ("No addresses found", NothingFound),
        ("Address does not exist", NotFound),
        ("Invalid subnet Id", NotFound),
    ],
)
def test_failure_with_status_200_up_to_version_1_4(message: str, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        parse_response(200, failure(200, message), REQUEST)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        pytest.param(200, failure(500, "Cannot obtain lock for /tmp/x after 30.0 seconds"), ResponseLost, id="lock"),
        pytest.param(200, failure(500, "MySQL wait timeout exceeded after 30 seconds"), ResponseLost, id="mysql lock"),
        pytest.param(
            501,
            b'{"code":501,"success":true,"message":"Method not implemented"}',
            Refused,
            id="unimplemented",
        ),
        pytest.param(500, b"", ResponseLost, id="a fatal PHP error"),
        pytest.param(502, b"<html><h1>502 Bad Gateway</h1></html>", ResponseLost, id="nginx"),
        pytest.param(200, b"<div class='alert'>Invalid ping path</div>", ResponseLost, id="HTML with 200"),
        pytest.param(404, b'<div></div>{"code":404,"success":false}', ResponseLost, id="HTML before JSON"),
        pytest.param(200, b"\xff\xfe", ResponseLost, id="not UTF-8"),
        pytest.param(200, b"[]", ResponseLost, id="a list"),
        pytest.param(200, b"{}", ResponseLost, id="another API"),
        pytest.param(500, b'{"success": true, "code": 200}', NotFound, id="a success with an error status"),
    ],
)
def test_response_that_is_not_a_complete_success_is_a_failure(status: int, body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_response(status, body, REQUEST)


@pytest.mark.parametrize(
    ("status", "bodies"),
    [
        pytest.param(502, [b"<h1>502</h1>", b"<h1>502</h1><!-- request 7f3a -->"], id="a proxy"),
        pytest.param(500, [b"", b"Fatal error in line 7"], id="a fatal PHP error"),
        pytest.param(
            200,
            [
                failure(500, f"Cannot obtain lock for /tmp/lock.txt after {wait} seconds")
                for wait in ("30.0059", "30.1")
            ],
            id="the write lock",
        ),
        pytest.param(
            503,
            [failure(503, f"Transaction timed out after {wait} seconds because of lock") for wait in (30, 31)],
            id="the write lock of 1.7",
        ),
        pytest.param(500, [failure(500, "Mailer Error: x", time=wait) for wait in (0.1, 0.2)], id="an error of 500"),
        pytest.param(503, [failure(503, "API server disabled", time=wait) for wait in (0.1, 0.2)], id="the API is off"),
        pytest.param(
            500, [failure(500, "Error: SQLSTATE[HY000] [2002] Connection refused")] * 2, id="the database is down"
        ),
        pytest.param(500, [failure(500, "Your IP has been blocked for 5 minutes")] * 2, id="the address is blocked"),
    ],
)
def test_message_of_an_outage_is_the_same_for_all_requests(status: int, bodies: list[bytes]) -> None:
    messages = set()
    for request in ("GET subnets/7/", "POST addresses/first_free/7/", "GET addresses/search_hostname/worker-1/"):
        for body in bodies:
            with pytest.raises(Unavailable) as raised:
                parse_response(status, body, request)
            messages.add(raised.value.message)
    assert len(messages) == 1


def test_failure_of_one_subnet_names_it() -> None:
    with pytest.raises(RequestFailed, match="phpIPAM subnet 7: 500"):
        parse_response(500, b"", "GET subnets/7/usage/", 7)


def test_success_returns_the_envelope() -> None:
    body = b'{"code":201,"success":true,"message":"Address created","id":"12","data":"192.168.100.2","time":0.004}'
    assert parse_response(201, body, REQUEST)["id"] == "12"
    assert parse_response(200, b'{"code":200,"success":true,"message":"Address deleted"}', REQUEST).get("data") is None


FIELD = "Error: SQLSTATE[HY000]: General error: 1364 Field 'custom_rack' doesn't have a default value"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(FIELD, id="a required field without a default"),
        pytest.param(
            "Error: SQLSTATE[HY000]: General error: 1366 Incorrect string value: '\\xF0' at row 1", id="charset"
        ),
        pytest.param(TOO_LONG, id="a text that is too long"),
        pytest.param("Error: SQLSTATE[22003]: Numeric value out of range: 1264 Out of range value", id="range"),
        pytest.param("Error: SQLSTATE[01000]: Warning: 1265 Data truncated for column 'state' at row 1", id="enum"),
        pytest.param(
            "Error: SQLSTATE[23000]: Integrity constraint violation: 1048 Column 'x' cannot be null", id="null"
        ),
        pytest.param(
            "Error: SQLSTATE[23000]: Integrity constraint violation: 1452 Cannot add or update a child row",
            id="a foreign key",
        ),
        pytest.param(
            "Error: SQLSTATE[23000]: Integrity constraint violation: 1062 Duplicate entry 'n1' for key 'hostname'",
            id="a unique key that is not phpIPAM's own",
        ),
        pytest.param("Error: SQLSTATE[42S02]: Base table or view not found: 1146 Table 'x' doesn't exist", id="table"),
        pytest.param("Error: SQLSTATE[42S22]: Column not found: 1054 Unknown column 'custom_x'", id="column"),
        pytest.param(
            "Error: SQLSTATE[42000]: Syntax error or access violation: 1142 INSERT command denied", id="rights"
        ),
        pytest.param("Error: SQLSTATE[45000]: <<Unknown error>>: 1644 rack is required", id="a trigger"),
        pytest.param("Error: SQLSTATE[HY000]: General error: 1114 The table 'ipaddresses' is full", id="a full table"),
        pytest.param("Error: SQLSTATE[HY093]: Invalid parameter number", id="no MySQL error number"),
        pytest.param("Fehler: SQLSTATE[HY000]: General error: 1364 Field 'x' doesn't", id="another language"),
    ],
)
@pytest.mark.parametrize("status", [200, 500], ids=["up to 1.4", "500"])
def test_database_error_that_no_retry_cures_is_a_refusal_in_the_words_of_phpipam(status: int, message: str) -> None:
    with pytest.raises(Refused) as raised:
        parse_response(status, failure(500, message), REQUEST)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("Error: SQLSTATE[40001]: Serialization failure: 1213 Deadlock found", id="a deadlock"),
        pytest.param("Error: SQLSTATE[HY000]: General error: 1205 Lock wait timeout exceeded", id="a lock"),
        pytest.param("Error: SQLSTATE[HY000]: General error: 2006 MySQL server has gone away", id="gone away"),
        pytest.param("Error: SQLSTATE[HY000]: General error: 2013 Lost connection to MySQL server", id="lost"),
        pytest.param("Error: SQLSTATE[HY000] [2002] Connection refused", id="no connection"),
        pytest.param("Error: SQLSTATE[HY000] [1040] Too many connections", id="too many connections"),
        pytest.param("Error: SQLSTATE[08004] [1040] Too many connections", id="too many connections, class 08"),
        pytest.param(
            "Error: SQLSTATE[42000] [1203] User phpipam already has more than 'max_user_connections'", id="user"
        ),
        pytest.param(
            "Error: SQLSTATE[08S01]: Communication link failure: 1047 WSREP has not yet prepared", id="Galera"
        ),
        pytest.param("Error: SQLSTATE[08S01]: Communication link failure: 1053 Server shutdown in progress", id="stop"),
        pytest.param("Error: SQLSTATE[70100]: <<Unknown error>>: 1317 Query execution was interrupted", id="killed"),
        pytest.param("Error: SQLSTATE[HY000]: General error: 3024 maximum statement execution time", id="time limit"),
        pytest.param("Error: SQLSTATE[HY000]: General error: 1290 running with the --read-only option", id="failover"),
        pytest.param("Error: SQLSTATE[HY000]: General error: 1020 Record has changed since last read", id="snapshot"),
    ],
)
def test_database_error_that_a_retry_may_cure_is_a_lost_response(message: str) -> None:
    with pytest.raises(ResponseLost):
        parse_response(500, failure(500, message), REQUEST)


@pytest.mark.parametrize("key", ["sid_ip_unique", "ipaddresses.sid_ip_unique", "PRIMARY"])
def test_duplicate_of_a_key_of_phpipam_is_a_lost_race(key: str) -> None:
    text = f"Error: SQLSTATE[23000]: Integrity constraint violation: 1062 Duplicate entry '7-7' for key '{key}'"
    with pytest.raises(Conflict):
        parse_response(500, failure(500, text), REQUEST)


def test_blocked_address_reports_when_to_retry() -> None:
    with pytest.raises(Unavailable) as raised:
        parse_response(
            500, failure(500, "Your IP has been blocked for 5 minutes because of excessive login failures"), REQUEST
        )
    assert raised.value.retry_after == 300


# --- The owner tag -----------------------------------------------------------------------------------------------

names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", fullmatch=True)
owners = st.builds(Owner, names, names, st.just("") | st.uuids().map(str))
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80).filter(lambda text: "cluster=" not in text)


@given(owners, words)
def test_owner_tag_is_appended_to_other_text_and_read_back(owner: Owner, before: str) -> None:
    text = with_owner_tag(before, owner)
    assert find_owner(text) == owner
    assert before.strip() in text
    assert cluster_filter(owner.cluster) in text
    assert with_owner_tag(text, owner) == text


@given(owners, owners, words, words)
def test_earlier_owner_tag_is_replaced_and_the_text_around_it_kept(
    old: Owner, new: Owner, before: str, behind: str
) -> None:
    text = with_owner_tag(f"{before}\n{encode_owner(old)}\n{behind}", new)
    assert text == f"{before}\n{encode_owner(new)}\n{behind}"
    assert find_owner(text) == new


@pytest.mark.parametrize(
    "text", ["", "overlay-net", "overlay-net cluster=a", "overlay-net cluster= node=n uid=u", "cluster=a node=n uid=u"]
)
def test_incomplete_owner_tag_is_ignored(text: str) -> None:
    assert find_owner(text) is None


@pytest.mark.parametrize(
    ("ip", "address"),
    [
        ("192.168.100.2", "192.168.100.2"),
        ("2887647242", "172.30.0.10"),
        ("2001:DB8::2", "2001:db8::2"),
        (str(0x20010DB8 << 96 | 2), "2001:db8::2"),
        ("", "None"),
        (None, "None"),
        ("x", "None"),
    ],
)
def test_address_is_parsed_in_every_form_that_phpipam_sends(ip: object, address: str) -> None:
    assert str(Row.parse({"ip": ip}, "note").address) == address


@pytest.mark.parametrize("raw", [{"id": 7, "subnetId": 3, "tag": 4}, {"id": "7", "subnetId": "3", "tag": "4"}])
def test_numbers_of_a_row_may_be_text(raw: dict[str, Any]) -> None:
    row = Row.parse(raw, "note")
    assert (row.id, row.subnet, row.tag) == (7, 3, 4)


def test_empty_row_is_parsed_with_defaults() -> None:
    row = Row.parse({"id": None, "subnetId": [], "custom_fields": None, "tag": None, "note": None}, "custom_owner")
    assert (row.id, row.owner, row.tag, row.holder) == (0, None, 2, "row 0")


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": {"1": {"id": "1"}}}, {"data": "none"}, {"data": True}])
def test_a_success_without_a_list_does_not_say_that_there_are_no_rows(data: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match="without the requested list"):
        parse_list({"code": 200, "success": True, **data})
