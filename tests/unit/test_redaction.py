"""What sysdump archives has no secret, in whatever form it appears, and is still useful."""

import json
from base64 import b64encode
from typing import Any

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
    ],
)
def test_a_secret_in_a_text_is_removed_by_its_form(text: str) -> None:
    shown = Redactor().text(text)
    assert REDACTED in shown
    for part in (SECRET, JWT, "MIIEpAIBAAKCAQEA"):
        assert part not in shown


@pytest.mark.parametrize(
    "text",
    [
        "level=info message='became leader' lease=overlay-net/x code=200",
        "route to 192.168.0.0/24 via 192.168.100.1: ForeignRoute",
        'overlay_net_http_requests_total{code="200",method="GET"} 5',
        "https://phpipam.example.com/api/app/subnets/7/",
    ],
)
def test_other_texts_are_left_as_they_are(text: str) -> None:
    assert Redactor().text(text) == text


def test_known_values_are_removed_wherever_they_are() -> None:
    redactor = Redactor([SECRET, "abc"])
    encoded = b64encode(SECRET.encode()).decode()
    shown = redactor.text(f"someone typed {SECRET} and {encoded} but abc is too short")
    assert SECRET not in shown
    assert encoded.rstrip("=") not in shown
    assert "abc is too short" in shown


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
