"""Settings: what wins, and the one line that a person reads when something is wrong."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from overlay_net.model.errors import ConfigurationError
from overlay_net.settings import AgentSettings, ControllerSettings, describe, load, parse_duration


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return file


def test_the_environment_wins_over_the_file_also_inside_a_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "log: {level: debug, format: json}\nrelease_after: 1h30m\nworkers: 4\n")
    monkeypatch.setenv("OVERLAY_LOG__LEVEL", "error")
    monkeypatch.setenv("OVERLAY_WORKERS", "8")
    settings = load(ControllerSettings, file)
    assert (settings.log.level, settings.log.format, settings.workers) == ("error", "json", 8)
    assert settings.release_after == timedelta(minutes=90)


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLAY_CONFIG", str(written(tmp_path, "node_name: n1")))
    assert load(AgentSettings, None).node_name == "n1"


def test_service_links_of_kubernetes_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OVERLAY_NET_SERVICE_HOST", "OVERLAY_NET_PORT_80_TCP_ADDR", "OVERLAY_NET_SERVICE_PORT_HTTP"):
        monkeypatch.setenv(name, "10.96.0.7")
    load(ControllerSettings, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("1.5m", 90), ("2d", 172800), ("7", 7), ("0.5", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("releaze_after: 1m", ("releaze_after", "no such setting")),
        ("log: {levl: info}", ("log.levl", "no such setting")),
        ("log: {level: loud}", ("log.level", "'loud'", "'debug', 'info', 'warning' or 'error'")),
        ("release_after: soon", ("release_after", "'soon'", "30s, 10m or 1h30m")),
        ("release_after: -5s", ("release_after", "'-5s'")),
        ("workers: 0", ("workers", "0", "greater than or equal to 1")),
        ("http: {bind: '8080'}", ("http.bind", "'8080'", ":8080")),
        ("http: {bind: ':99999'}", ("http.bind", "':99999'")),
        ("[1, 2]", ("mapping", "list")),
        ("a: [", ("not YAML",)),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(ControllerSettings, written(tmp_path, text))
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("OVERLAY_LINKK", "tmp0", "OVERLAY_LINKK"),
        ("OVERLAY_LINK", "a/b", "OVERLAY_LINK: 'a/b'"),
        ("OVERLAY_LINK", "sixteen-letters-", "1 to 15 characters"),
        ("OVERLAY_ROUTE_PROTOCOL", "2", "OVERLAY_ROUTE_PROTOCOL"),
        ("OVERLAY_LOG__LEVL", "info", "OVERLAY_LOG__LEVL: no such setting"),
    ],
)
def test_the_variable_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, part: str
) -> None:
    monkeypatch.setenv("OVERLAY_NODE_NAME", "n1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=part):
        load(AgentSettings, None)


def test_the_help_names_every_setting() -> None:
    for settings in (ControllerSettings, AgentSettings):
        text = describe(settings)
        for name, field in settings.model_fields.items():
            assert name in text
            assert field.description is None or field.description in text


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["agent"], "node_name: missing; set it in the config file or as OVERLAY_NODE_NAME"),
        (["controller", "--config=/nowhere/c.yaml"], "config file /nowhere/c.yaml: No such file"),
        (["controller"], "set kubeconfig"),
        (["controler"], "invalid choice"),
    ],
)
def test_the_command_line_ends_with_2_and_one_line(arguments: list[str], part: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "OVERLAY_HTTP__BIND": "127.0.0.1:0"}
    command = [sys.executable, "-m", "overlay_net", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert part in ended.stderr
    assert "Traceback" not in ended.stderr
