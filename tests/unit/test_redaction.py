"""What sysdump archives has no secret, in whatever form it appears, and is still useful."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from overlay_net.cli.archive import parse_yaml
from overlay_net.domain.diagnosis.redaction import REDACTED, Redactor

SECRET = "s3cr3t-Pa55word"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl_-abc"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        f"password: {SECRET}",
        f"password={SECRET} action=login",
        f'"phpipam_token": "{SECRET}"',
        f"OVERLAY_PHPIPAM__PASSWORD={SECRET}",
        f"GET https://admin:{SECRET}@ipam.example.com/api",
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"code: '{SECRET}'",
        f"error: login failed for token {JWT}",
        PEM,
        PEM.partition("\n-----END")[0],
        f"client-key-data: {b64encode(PEM.encode()).decode()}",
        f"kubeconfig {b64encode(PEM.encode()).decode()}",
        rf'{{"event": "answer", "body": "{{\"token\":\"{SECRET}\"}}"}}',
        rf'"password": "a\"{SECRET}"',
        f"password=a,b;{SECRET}",
        f"{{'token': b'{SECRET}'}}",
        f"token: |\n  {SECRET}\n",
        f"https_proxy=http://user:p@{SECRET}@proxy.example.com:3128",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"DB_PASS={SECRET}",
        f"passphrase: {SECRET}",
        f"curl --password {SECRET} https://ipam.example.com",
        f"Set-Cookie: session={SECRET}; Path=/",
        f"Cookie: theme=dark; session={SECRET}",
        f"password: correct horse {SECRET}",
        f"level=error password=correct {SECRET} staple action=login",
        f"--password 'correct {SECRET}' --verbose",
    ],
)
def test_a_secret_in_a_text_is_removed_by_its_form(text: str) -> None:
    shown = Redactor().text(text)
    assert REDACTED in shown
    for part in (SECRET, JWT, "MIIEpAIBAAKCAQEA", b64encode(PEM.encode()).decode()):
        assert part not in shown


@pytest.mark.parametrize(
    "text",
    [
        "level=info message='became leader' lease=overlay-net/x code=200",
        "route to 192.168.0.0/24 via 192.168.100.1: ForeignRoute",
        'overlay_net_http_requests_total{code="200",method="GET"} 5',
        r'{"message": "answer {\"code\":404,\"success\":false}"}',
        "https://phpipam.example.com/api/app/subnets/7/",
    ],
)
def test_other_texts_are_left_as_they_are(text: str) -> None:
    assert Redactor().text(text) == text


def test_words_after_a_password_are_removed_up_to_the_next_key() -> None:
    shown = Redactor().text(f"level=error password=correct horse {SECRET} action=login node=n1\nnext line\n")
    assert shown == f"level=error password={REDACTED} action=login node=n1\nnext line\n"


def test_reason_after_a_token_is_kept() -> None:
    assert Redactor().text("invalid token: signature is not valid").endswith(f"{REDACTED} is not valid")


def test_known_values_are_removed_wherever_they_are() -> None:
    redactor = Redactor([SECRET, "abc"])
    encoded = b64encode(SECRET.encode()).decode()
    shown = redactor.text(f"someone typed {SECRET} and {encoded} but abc is too short")
    assert SECRET not in shown
    assert encoded.rstrip("=") not in shown
    assert "abc is too short" in shown


@pytest.mark.parametrize(
    "form",
    [
        lambda text: quote(text),
        lambda text: quote(text, safe=""),
        lambda text: quote_plus(text),
        lambda text: json.dumps(text)[1:-1],
        lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
        lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    ],
)
def test_known_values_are_removed_in_each_form_that_programs_write(form: Callable[[str], str]) -> None:
    secret = 'p@ss w/"\u00f6?>~'
    assert Redactor([secret]).text(f"GET /user/{form(secret)}/ failed") == f"GET /user/{REDACTED}/ failed"


@pytest.mark.parametrize(
    "value",
    [
        {"env": [{"name": "OVERLAY_PHPIPAM__CODE", "value": SECRET}]},
        {"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": SECRET}]},
        {"args": ["run", "--password", SECRET]},
        {"data": {"db-pass": SECRET}},
        {"passwords": "", "password": [SECRET]},
        {"data": {"config.yaml": "user: a\npassword: 123456789\n"}},
        {"annotations": {"before": json.dumps({"kind": "Secret", "data": {"any": SECRET}})}},
    ],
)
def test_a_secret_in_an_object_is_removed_by_its_key(value: dict[str, Any]) -> None:
    shown = json.dumps(Redactor().object(value, parse_yaml))
    assert SECRET not in shown
    assert "123456789" not in shown


@pytest.mark.parametrize("text", ["8080: http\n2026-01-01: begin\n", "since: 2026-01-01\nraw: !!binary aGk=\n"])
def test_a_file_of_any_content_can_be_archived(text: str) -> None:
    assert json.dumps(Redactor().object({"data": {"file": text}}, parse_yaml))


def test_flags_and_codes_of_http_are_no_secrets() -> None:
    value = {"automountServiceAccountToken": True, "exitCode": 137, "tokens": [], "args": ["--token-file", "/run/x"]}
    assert Redactor().object(value, parse_yaml) == value


def test_objects_lose_the_values_of_secret_keys_and_copies_of_themselves() -> None:
    content: dict[str, Any] = {
        "kind": "List",
        "items": [
            {"kind": "Secret", "metadata": {"name": "phpipam"}, "data": {"x": SECRET}, "stringData": {"y": SECRET}},
            {
                "kind": "ConfigMap",
                "metadata": {
                    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": SECRET, "kept": "a"},
                    "managedFields": [{"manager": SECRET}],
                },
                "data": {"config.yaml": f"phpipam:\n  url: https://u:{SECRET}@x\n  password: {SECRET}\n  app_id: a\n"},
            },
            {"env": [{"name": "PHPIPAM_PASSWORD", "value": SECRET}, {"name": "NODE", "value": "n1"}]},
            {"status": {"token": SECRET, "secretName": "phpipam-secret", "code": 404}},
        ],
    }
    shown = Redactor().object(content, parse_yaml)
    assert SECRET not in json.dumps(shown)
    _, config, env, status = shown["items"]
    assert config["metadata"]["annotations"] == {"kept": "a"}
    assert config["data"]["config.yaml"]["phpipam"]["app_id"] == "a"
    assert env["env"][1] == {"name": "NODE", "value": "n1"}
    assert status["status"] == {"token": REDACTED, "secretName": "phpipam-secret", "code": 404}
