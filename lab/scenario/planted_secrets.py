"""Secrets in the cluster of the scenario: those that its values plant, those of Secrets, and the tokens of pods."""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from typing import Any

from lab.cluster.api_server import ApiServer
from lab.net.vlan import Node

PASSWORD, IN_VARIABLE, IN_URL = 'Pl4nted "pass" phrase', "Pl4nted-in-a-variable", "Pl4nted-in-a-url"
VALUES: dict[str, Any] = {
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "phpipam-secret"},
            "stringData": {"username": "overlay-net", "password": PASSWORD},
        }
    ],
    "agent": {
        "extraEnv": [
            {"name": "PROXY_PASSWORD", "value": IN_VARIABLE},
            {"name": "AUDIT_LOG", "value": f"https://audit:{IN_URL}@audit.example.com"},
        ]
    },
}
PUBLIC = ("ca.crt", "namespace", "username")
"""Keys in Secrets of values that are no secrets."""
TOKENS = "cat /var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/*/token"


def find_secrets(api_server: ApiServer, nodes: Iterable[Node]) -> set[str]:
    """Every secret that exists: the planted ones, the values of all Secrets, and the tokens of all pods."""
    found = {PASSWORD, IN_VARIABLE, IN_URL}
    for secret in api_server.get("secrets", "--all-namespaces")["items"]:
        for key, value in secret.get("data", {}).items():
            if key not in PUBLIC:
                found |= set(_forms(value))
    for node in nodes:
        # A token has no line break.
        found |= {f"eyJ{each}" for each in node.run("sh", "-c", TOKENS).split("eyJ") if len(each) > 100}
    return found


def _forms(encoded: str) -> Iterator[str]:
    text = b64decode(encoded).decode(errors="replace")
    yield encoded
    yield b64encode(text.strip().encode()).decode()
    yield text
