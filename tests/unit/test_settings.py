"""Settings: their sources and precedence, and the one-line error for an invalid configuration."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from overlay_net.model.errors import ConfigurationError
from overlay_net.model.policy_rule import PrivateTable, SourceTable
from overlay_net.settings.agent import AgentSettings
from overlay_net.settings.controller import ControllerSettings
from overlay_net.settings.durations import parse_duration
from overlay_net.settings.loading import describe, load
from overlay_net.settings.sections import PhpIpamSettings


def write_config(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return file


def test_the_environment_takes_precedence_over_the_file_also_within_a_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_config(tmp_path, "log: {level: debug, format: json}\nrelease_after: 1h30m\nworkers: 4\n")
    monkeypatch.setenv("OVERLAY_LOG__LEVEL", "error")
    monkeypatch.setenv("OVERLAY_WORKERS", "8")
    settings = load(ControllerSettings, file)
    assert (settings.log.level, settings.log.format, settings.workers) == ("error", "json", 8)
    assert settings.release_after == timedelta(minutes=90)


def test_the_config_file_can_be_set_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLAY_CONFIG", str(write_config(tmp_path, "node_name: n1")))
    assert load(AgentSettings, None).node_name == "n1"


def test_service_variables_of_kubernetes_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OVERLAY_NET_SERVICE_HOST", "OVERLAY_NET_PORT_80_TCP_ADDR", "OVERLAY_NET_SERVICE_PORT_HTTP"):
        monkeypatch.setenv(name, "10.96.0.7")
    load(ControllerSettings, None)


def test_identity_and_namespace_of_the_lease_default_to_those_of_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "overlay-net-controller-abc")
    monkeypatch.setenv("POD_NAMESPACE", "overlay-net")
    election = load(ControllerSettings, None).leader_election
    assert (election.identity, election.namespace) == ("overlay-net-controller-abc", "overlay-net")
    assert election.lease_duration == timedelta(seconds=15), "other settings keep their defaults"
    monkeypatch.setenv("OVERLAY_LEADER_ELECTION__NAMESPACE", "elsewhere")
    assert load(ControllerSettings, None).leader_election.namespace == "elsewhere"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("1.5m", 90), ("2d", 172800), ("7", 7), ("0.5", 0.5)],
)
def test_durations_are_parsed_as_kubernetes_writes_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("releaze_after: 1m", ("releaze_after", "no such setting")),
        ("log: {levl: info}", ("log.levl", "no such setting")),
        ("log: {level: loud}", ("log.level", "'loud'", "'debug', 'info', 'warning' or 'error'")),
        ("release_after: soon", ("release_after", "'soon'", "30s, 10m or 1h30m")),
        ("release_after: -5s", ("release_after", "'-5s'")),
        (
            "leader_election: {renew_deadline: 15s}",
            (
                "leader_election.renew_deadline",
                "'15s'",
                "must be less than lease_duration (15s), when another replica may take over",
            ),
        ),
        (
            "leader_election: {retry_period: 9s}",
            ("leader_election.retry_period", "'9s'", "must be less than five sixths of renew_deadline (10s)"),
        ),
        ("leader_election: {lease_duration: 100ms}", ("leader_election.lease_duration", "'100ms'", "at least 1s")),
        ("leader_election: {lease_name: A_b}", ("leader_election.lease_name", "'A_b'")),
        ("leader_election: {enabled: maybe}", ("leader_election.enabled", "'maybe'")),
        ("workers: 0", ("workers", "0", "greater than or equal to 1")),
        ("node_status_limit: 1001", ("node_status_limit", "1001", "less than or equal to 1000")),
        ("http: {bind: '8080'}", ("http.bind", "'8080'", ":8080")),
        ("http: {bind: ':99999'}", ("http.bind", "':99999'")),
        ("[1, 2]", ("mapping", "list")),
        ("a: [", ("invalid YAML",)),
    ],
)
def test_an_invalid_setting_is_reported_in_one_line(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(ControllerSettings, write_config(tmp_path, text))
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("OVERLAY_LINKK", "tmp0", "OVERLAY_LINKK"),
        ("OVERLAY_LINK", "a/b", "OVERLAY_LINK: invalid value 'a/b'"),
        ("OVERLAY_LINK", "sixteen-letters-", "1 to 15 characters"),
        ("OVERLAY_ROUTE_PROTOCOL", "2", "OVERLAY_ROUTE_PROTOCOL"),
        ("OVERLAY_SOURCE_TABLE", "254", "must be a dedicated table: 253 to 255"),
        ("OVERLAY_SOURCE_PRIORITY", "32766", "OVERLAY_SOURCE_PRIORITY"),
        ("OVERLAY_LOG__LEVL", "info", "OVERLAY_LOG__LEVL: no such setting"),
    ],
)
def test_an_invalid_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, part: str) -> None:
    monkeypatch.setenv("OVERLAY_NODE_NAME", "n1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=part):
        load(AgentSettings, None)


def test_source_routing_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLAY_NODE_NAME", "n1")
    assert load(AgentSettings, None).source is None
    monkeypatch.setenv("OVERLAY_SOURCE_ROUTING", "true")
    monkeypatch.setenv("OVERLAY_SOURCE_TABLE", "200")
    assert load(AgentSettings, None).source == SourceTable(200, 11700, 8)


def test_private_source_routing_is_off_by_default_and_needs_a_table_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OVERLAY_NODE_NAME", "n1")
    monkeypatch.setenv("OVERLAY_SOURCE_TABLE", "118")
    assert load(AgentSettings, None).private_source is None, "the table of an earlier version stays valid"
    monkeypatch.setenv("OVERLAY_PRIVATE_SOURCE_ROUTING", "true")
    with pytest.raises(ConfigurationError, match="must not be 118, the source_table"):
        load(AgentSettings, None)
    monkeypatch.setenv("OVERLAY_PRIVATE_SOURCE_TABLE", "255")
    with pytest.raises(ConfigurationError, match="must be a dedicated table"):
        load(AgentSettings, None)
    monkeypatch.setenv("OVERLAY_PRIVATE_SOURCE_TABLE", "119")
    assert load(AgentSettings, None).private_source == PrivateTable(119, 11700)


def test_the_help_lists_every_setting() -> None:
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
        (["controler"], "No such command 'controler'"),
    ],
)
def test_invalid_arguments_and_settings_exit_with_2_and_without_traceback(arguments: list[str], part: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "OVERLAY_HTTP__BIND": "127.0.0.1:0"}
    command = [sys.executable, "-m", "overlay_net", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert part in result.stderr
    assert "Traceback" not in result.stderr


# --- phpIPAM -----------------------------------------------------------------------------------------------------

LEGACY = """\
phpIPAM:
  url: https://phpipam.example.com
  appID: overlay
  subnetMap:
    dal10: [7, 9]
    dal12: [11]
  insecureSkipTLSVerify: true
"""
PHPIPAM = "phpipam: {url: 'https://phpipam.example.com', app_id: overlay"
SECRET = "pass-Wort-7f3a"


@pytest.fixture
def with_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHPIPAM_USERNAME", "operator")
    monkeypatch.setenv("PHPIPAM_PASSWORD", SECRET)


def load_phpipam(file: Path | None) -> PhpIpamSettings:
    section = load(ControllerSettings, file).phpipam
    assert section is not None
    return section


def show_secrets(section: PhpIpamSettings) -> list[str]:
    return [each.get_secret_value() if each else "" for each in section.fixed_secret]


@pytest.mark.usefixtures("with_secret")
def test_file_and_secret_of_the_previous_operator_are_accepted(tmp_path: Path) -> None:
    section = load_phpipam(write_config(tmp_path, LEGACY))
    assert (section.url, section.app_id) == ("https://phpipam.example.com", "overlay")
    assert section.subnet_map == {"dal10": [7, 9], "dal12": [11]}
    assert section.insecure_skip_tls_verify
    assert show_secrets(section) == ["operator", SECRET, ""]


def test_phpipam_is_off_without_its_section() -> None:
    assert load(ControllerSettings, None).phpipam is None


@pytest.mark.usefixtures("with_secret")
def test_phpipam_can_be_configured_by_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLAY_PHPIPAM__URL", "https://phpipam.example.com/ipam")
    monkeypatch.setenv("OVERLAY_PHPIPAM__APP_ID", "overlay")
    section = load_phpipam(None)
    assert section.url == "https://phpipam.example.com/ipam"
    assert show_secrets(section) == ["operator", SECRET, ""]


@pytest.mark.usefixtures("with_secret")
def test_the_secret_of_the_environment_takes_precedence_over_the_file(tmp_path: Path) -> None:
    section = load_phpipam(write_config(tmp_path, f"{PHPIPAM}, username: old, password: old}}"))
    assert show_secrets(section) == ["operator", SECRET, ""]


def test_a_mounted_secret_requires_no_variables(tmp_path: Path) -> None:
    config = write_config(tmp_path, f"{PHPIPAM}, credentials_dir: /secret}}")
    assert load_phpipam(config).credentials_dir == Path("/secret")


@pytest.mark.parametrize(
    ("rest", "parts"),
    [
        ("}", ("phpipam", "credentials_dir", "PHPIPAM_USERNAME and PHPIPAM_PASSWORD")),
        (", username: x}", ("credentials_dir", "PHPIPAM_PASSWORD")),
        (", auth: code}", ("credentials_dir", "PHPIPAM_CODE")),
        (", auth: code, code: x, url: 'http://phpipam'}", ("https", "url")),
        (", auth: basic, username: x, password: y}", ("phpipam.auth", "'basic'", "'token' or 'code'")),
    ],
)
def test_missing_or_unusable_credentials_are_reported_in_one_line(
    tmp_path: Path, rest: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(ControllerSettings, write_config(tmp_path, PHPIPAM + rest))
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.usefixtures("with_secret")
@pytest.mark.parametrize(
    ("rest", "parts"),
    [
        (", url: phpipam.example.com}", ("phpipam.url", "'phpipam.example.com'", "https://phpipam.example.com")),
        (", url: 'ftp://phpipam'}", ("phpipam.url", "'ftp://phpipam'")),
        (", url: 'https://phpipam/?a=b'}", ("phpipam.url", "query")),
        (", url: 'https://phpipam:port'}", ("phpipam.url",)),
        (", app_id: ''}", ("phpipam.app_id",)),
        (", subnet_map: {dal10: [0]}}", ("phpipam.subnet_map.dal10.0", "0", "greater than or equal to 1")),
        (", subnet_map: {dal10: [10.0.0.0/24]}}", ("phpipam.subnet_map.dal10.0", "'10.0.0.0/24'")),
        (", subnet_map: {dal10: 7}}", ("phpipam.subnet_map.dal10", "list")),
        (", subnetMapp: {}}", ("phpipam.subnetMapp", "no such setting")),
        (", mark_field: owner}", ("phpipam.mark_field", "'owner'")),
        (", concurrency: 0}", ("phpipam.concurrency", "0")),
        (", timeout: soon}", ("phpipam.timeout", "'soon'", "30s")),
    ],
)
def test_an_invalid_phpipam_setting_is_reported_in_one_line(tmp_path: Path, rest: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(ControllerSettings, write_config(tmp_path, PHPIPAM + rest))
    message = str(error.value)
    assert "\n" not in message
    assert SECRET not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "text",
    [
        f"{PHPIPAM}, url: 'https://operator:{SECRET}@phpipam'}}",
        f"{PHPIPAM}, username: x, password: {SECRET}, pasword: {SECRET}}}",
        f"{PHPIPAM}, username: x, password: [{SECRET}]}}",
        f"{PHPIPAM}, username: x, password: {{a: {SECRET}}}}}",
        f"{PHPIPAM}, code: {SECRET}}}",
        f"{PHPIPAM}, auth: code, code: {SECRET}, url: 'http://x'}}",
        f"phpipam: {{password: {SECRET}}}",
        f"phpipam: [{SECRET}]",
        f"phpipam: {SECRET}",
    ],
    ids=["in the url", "typing error", "list", "mapping", "code", "code over http", "incomplete", "a list", "a text"],
)
def test_no_error_shows_a_secret(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(ControllerSettings, write_config(tmp_path, text))
    assert SECRET not in str(error.value)
    assert "phpipam" in str(error.value)


@pytest.mark.usefixtures("with_secret")
def test_printed_settings_do_not_show_secrets(tmp_path: Path) -> None:
    settings = load(ControllerSettings, write_config(tmp_path, LEGACY))
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
