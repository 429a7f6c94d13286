"""A kubeconfig that cannot be used is reported in one line that names the file and what is wrong in it."""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from overlay_net.adapters.kube import Connection, connect_agent, connect_controller
from overlay_net.model.errors import ConfigurationError

GOOD = """
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443/"}}]
users: [{name: u, user: {token: secret}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""
SERVER = '"https://127.0.0.1:6443/"'

MALFORMED = [
    ("", "the file is empty"),
    ("# only a comment\n", "the file is empty"),
    ("[1, 2]", "must be a mapping, not list"),
    ("text", "must be a mapping, not str"),
    ("a: [", "invalid YAML"),
    ("a:\n\t- b\n", "invalid YAML"),
    ("\0", "invalid YAML"),
    (GOOD.replace("current-context: x", ""), "current-context is not set"),
    (GOOD.replace("current-context: x", "current-context: y"), "no 'y' in contexts"),
    (GOOD.replace("cluster: c,", "cluster: d,"), "no 'd' in clusters"),
    (GOOD.replace("user: u}", "user: v}"), "no 'v' in users"),
    (GOOD.replace(", user: u}", "}"), "no '' in users"),
    (GOOD.replace("{token: secret}", "null"), "users: each entry must have a name and a mapping 'user'"),
    (GOOD.replace("users: [{name: u, user: {token: secret}}]", "users: null"), "no 'u' in users"),
    (GOOD.replace("users: [{name: u, user: {token: secret}}]", "users: 7"), "users must be a list, not int"),
    (GOOD.replace("{token: secret}", "text"), "users: each entry must have a name and a mapping 'user'"),
    (GOOD.replace("name: c, ", ""), "clusters: each entry must have a name and a mapping 'cluster'"),
    (GOOD.replace(SERVER, '""'), "server of cluster 'c' must be a URL such as https://10.0.0.1:6443, not ''"),
    (GOOD.replace(SERVER, "10.0.0.1:6443"), "must be a URL such as"),
    (GOOD.replace(SERVER, '"https://127.0.0.1:99999"'), "must be a URL such as"),
    (GOOD.replace("{server", '{certificate-authority-data: "!!", server'), ""),
    (GOOD.replace("{server", "{certificate-authority-data: aGVsbG8=, server"), ""),
    (GOOD.replace("{server", "{certificate-authority: missing.pem, server"), ""),
    (GOOD.replace("token: secret", "client-certificate-data: aGVsbG8=, client-key-data: aGVsbG8="), ""),
]

Connect = Callable[[str], AbstractAsyncContextManager[Connection]]


async def refusal(connect: Connect, kubeconfig: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        async with connect(kubeconfig):
            pass
    return str(refused.value)


@pytest.mark.parametrize("connect", [connect_agent, connect_controller])
@pytest.mark.parametrize(("text", "part"), MALFORMED)
async def test_a_malformed_kubeconfig_is_reported_in_one_line(
    connect: Connect, tmp_path: Path, text: str, part: str
) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    message = await refusal(connect, str(file))
    assert "\n" not in message
    assert message.startswith(f"kubeconfig {file}: ")
    assert part in message
    assert "secret" not in message


@pytest.mark.parametrize("connect", [connect_agent, connect_controller])
async def test_a_kubeconfig_that_cannot_be_read_is_reported_in_one_line(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    for name, part in (("missing", "No such file"), (".", "Is a directory"), ("latin", "invalid YAML")):
        message = await refusal(connect, str(tmp_path / name))
        assert "\n" not in message
        assert part in message


async def test_of_several_kubeconfigs_the_missing_ones_are_skipped_and_the_first_entry_of_a_name_counts(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("current-context: x\nclusters: [{name: c, cluster: {server: 'https://10.0.0.9:6443'}}]\n")
    second.write_text(GOOD.replace("current-context: x", ""))
    paths = os.pathsep.join(map(str, (tmp_path / "missing", first, second)))
    async with connect_controller(paths) as connection:
        assert connection.server == "https://10.0.0.9:6443"
