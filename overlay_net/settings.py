"""ControllerSettings and AgentSettings: read once at start, from the command line, the environment and one YAML file.

The environment wins over the file. A name that means nothing, a file that is not there and an impossible value all end
as one ConfigurationError each: nothing that an operator wrote is silently ignored.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from overlay_net.domain.last_state import MARGIN
from overlay_net.domain.parents import ParentRule, parent_rule
from overlay_net.model.errors import ConfigurationError
from overlay_net.model.kernel import IpAddress, IpNetwork, LinkMode, MacvlanMode
from overlay_net.model.parse import address_of, network_of

ENV_PREFIX = "OVERLAY_"
CONFIG_VARIABLE = "OVERLAY_CONFIG"
SECRETS = ("username", "password", "code")

_EARLIER_NAMES = {
    "phpIPAM": "phpipam",
    "appID": "app_id",
    "subnetMap": "subnet_map",
    "insecureSkipTLSVerify": "insecure_skip_tls_verify",
}

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
# Kubernetes adds these for each Service of the namespace, one named "overlay-..." included (docker-links variables).
_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")


def parse_duration(value: object) -> object:
    """``90s``, ``1h30m``, ``250ms`` as Go and Kubernetes write them; a plain number is seconds."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h|d)", value))
    if isinstance(value, timedelta) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    try:
        return float(str(value))
    except ValueError:
        raise ValueError("a duration such as 30s, 10m or 1h30m") from None


def parse_bind(value: str) -> str:
    """``:8080``, ``127.0.0.1:8080`` or ``[::1]:8080``."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError("an address and port such as :8080, 127.0.0.1:8080 or [::1]:8080")
    return value


def parse_link_name(value: str) -> str:
    """A network interface name as the kernel accepts it (dev_valid_name in net/core/dev.c)."""
    if not 0 < len(value) < 16 or value in {".", ".."} or re.search(r"[/:\s]", value):
        raise ValueError("an interface name of 1 to 15 characters without slash, colon or blank")
    return value


def parse_network(value: object) -> object:
    """A subnet without host bits."""
    network = network_of(value) if isinstance(value, str) else value
    if not isinstance(network, IPv4Network | IPv6Network):
        raise ValueError("a subnet without host bits, such as 10.0.0.0/8")
    return network


def parse_address(value: object) -> object:
    """An address; an empty text is none."""
    found = address_of(value) if isinstance(value, str) else value
    if value not in ("", None) and not isinstance(found, IPv4Address | IPv6Address):
        raise ValueError("an address, such as 10.176.162.151")
    return found


def parse_directory(value: object) -> object:
    """An absolute path; an empty text is none."""
    if value in ("", None):
        return None
    if not str(value).startswith("/"):
        raise ValueError("an absolute path, or an empty text for none")
    return Path(str(value))


def parse_subnet(value: str) -> str:
    """A subnet without host bits."""
    if network_of(value) is None:
        raise ValueError("a subnet without host bits, such as 10.1.0.0/16")
    return value


def parse_url(value: str) -> str:
    """An http(s) URL of a server, with or without a path; no query, no credentials in it."""
    parts = urlsplit(value)
    try:
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("a URL such as https://phpipam.example.com, without user, password and query")
    return value


Url = Annotated[str, AfterValidator(parse_url)]
Subnet = Annotated[str, AfterValidator(parse_subnet)]
ZoneName = Annotated[str, Field(min_length=1, max_length=63)]
SubnetId = Annotated[int, Field(ge=1)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta())]
Interval = Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(milliseconds=1))]
Bind = Annotated[str, AfterValidator(parse_bind)]
Network = Annotated[IpNetwork, BeforeValidator(parse_network)]
OptionalAddress = Annotated[IpAddress | None, BeforeValidator(parse_address)]
OptionalDirectory = Annotated[Path | None, BeforeValidator(parse_directory)]
LinkName = Annotated[str, AfterValidator(parse_link_name)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is written"
    )
    format: Literal["text", "json"] = Field(default="text", description="text for people, json for log collectors")


class ControllerHttp(Section):
    bind: Bind = Field(default=":8080", description="where /metrics, /healthz and /readyz are served")


class AgentHttp(Section):
    bind: Bind = Field(default=":9477", description="where /metrics, /healthz and /readyz are served")


class PhpIpamSettings(Section):
    url: Url = Field(description="where phpIPAM is, e.g. https://phpipam.example.com")
    app_id: str = Field(min_length=1, description="App id of the API app in phpIPAM (the earlier operator's appID)")
    subnet_map: dict[ZoneName, list[SubnetId]] | None = Field(
        default=None, description="zone -> subnet ids, tried in order; kept as OverlayPools (subnetMap)"
    )
    auth: Literal["token", "code"] = Field(
        default="token", description="token: user and password (ssl_token, none); code: app code (ssl_code)"
    )
    credentials_dir: Path | None = Field(
        default=None, description="mounted secret with the files username and password, or code; read anew on change"
    )
    username: SecretStr | None = Field(default=None, description="user, where no secret is mounted; PHPIPAM_USERNAME")
    password: SecretStr | None = Field(default=None, description="password, likewise; PHPIPAM_PASSWORD")
    code: SecretStr | None = Field(default=None, description="app code, likewise; PHPIPAM_CODE")
    insecure_skip_tls_verify: bool = Field(
        default=False, description="do not check the server's certificate (insecureSkipTLSVerify)"
    )
    ca_file: Path | None = Field(default=None, description="certificates to trust instead of the system's")
    proxy: str = Field(default="", description="HTTP proxy to phpIPAM; the environment's proxies are not used")
    timeout: Interval = Field(
        default=timedelta(seconds=45), description="for one call; longer than the server's app_lock_wait of 30s"
    )
    lock_wait: Duration = Field(
        default=timedelta(seconds=35),
        description="how long a row may still appear after the answer to its reservation was lost",
    )
    concurrency: int = Field(default=8, ge=1, le=64, description="reads, and writes, at the same time")
    refresh_interval: Interval = Field(
        default=timedelta(seconds=60), description="how often usage and gateway of each pool are read"
    )
    mark_field: str = Field(
        default="note",
        pattern=r"^(note|custom_\w+)$",
        description="field of a row that holds our mark: note, or a custom field of at least 255 characters",
    )
    touch_interval: Duration = Field(
        default=timedelta(), description="how old lastSeen of an address in use may become; 0: it is not written"
    )

    @model_validator(mode="after")
    def _complete(self) -> "PhpIpamSettings":
        if self.auth == "code" and not self.url.startswith("https://"):
            raise ValueError("phpIPAM takes an app code over https only: url must begin with https://")
        names = ("code",) if self.auth == "code" else ("username", "password")
        missing = [name for name in names if getattr(self, name) is None]
        if self.credentials_dir is None and missing:
            variables = " and ".join(f"PHPIPAM_{name.upper()}" for name in missing)
            raise ValueError(f"no credentials: set credentials_dir to the mounted secret, or {variables}")
        return self

    @property
    def fixed_secret(self) -> tuple[SecretStr | None, SecretStr | None, SecretStr | None]:
        return self.username, self.password, self.code


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    log: LogSettings = LogSettings()
    kubeconfig: Path | None = Field(
        default=None, description="kubeconfig file; without it the pod's service account is used"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The file's content comes in as init values, yet the environment must win over it.
        return env_settings, init_settings


class ControllerSettings(_Settings):
    http: ControllerHttp = ControllerHttp()
    cluster_id: str = Field(
        default="", max_length=63, description="mark of this cluster in the IPAM; default: kube-system's uid"
    )
    release_after: Duration = Field(
        default=timedelta(minutes=10), description="how long a node that is gone keeps its address"
    )
    fence_after: Duration = Field(
        default=timedelta(minutes=10), description="how long the silent agent of a node that is gone is waited for"
    )
    workers: int = Field(default=16, ge=1, le=256, description="nodes that are reconciled at the same time")
    status_batch: Interval = Field(
        timedelta(seconds=1),
        description="how long reports are gathered before the status of routes and pools is written",
    )
    audit_interval: Interval = Field(
        default=timedelta(minutes=5), description="how often the IPAM is compared with the cluster"
    )
    phpipam: PhpIpamSettings | None = None
    protected_subnets: list[Subnet] = Field(
        default=[], description="no StaticRoute may touch these, nor nodes, pods, services, API servers, phpIPAM"
    )
    allow_default_route: bool = Field(default=False, description="whether a StaticRoute may be a default route")
    audit_grace: Duration = Field(
        default=timedelta(minutes=10), description="how long a reservation without owner is kept before it is released"
    )


class AgentSettings(_Settings):
    http: AgentHttp = AgentHttp()
    node_name: str = Field(min_length=1, max_length=253, description="name of the Node this agent runs on")
    node_ip: OptionalAddress = Field(default=None, description="the node's InternalIP, for interface: node-ip")
    interface: str = Field(
        default="eth0",
        description="the node's private interface, below the overlay link: a name, or names and patterns of which the "
        "first that fits is taken (eth1,bond*,en*), or route:ADDRESS for the interface of the route to an address, or "
        "node-ip for the one that has the address node_ip",
    )
    link: LinkName = Field(default="tmp0", description="name of the overlay link")
    link_mode: LinkMode = Field(
        default="macvlan",
        description="macvlan or ipvlan: a link of its own; address: on the interface itself; none: routes only",
    )
    macvlan_mode: MacvlanMode = Field(default="bridge", description="bridge, private or vepa (ip-link(8))")
    fallback_subnet: Network = Field(
        default=IPv4Network("10.0.0.0/8"),
        description="with link_mode none, routes without a gateway take the one that the node uses for this subnet",
    )
    duplicate_detection: bool = Field(
        default=True,
        description="ask on the link whether an address is free before it is used; false where a router answers for "
        "every address of the overlay subnet (proxy ARP)",
    )
    announce_interval: Duration = Field(
        default=timedelta(), description="how often the address is announced besides on changes; 0: not"
    )
    # The kernel and its tools name 0-18, 42, 99 and 186-192 (rt_protos); the default is in nobody's list.
    route_protocol: int = Field(
        default=117, ge=5, le=255, description="protocol number that marks our routes and addresses"
    )
    resync_interval: Interval = Field(
        default=timedelta(seconds=60), description="how often the kernel is compared in full, besides on every change"
    )
    proc_sys_net: Path = Field(
        default=Path("/proc/sys/net"), description="where the node's writable net sysctls are mounted"
    )
    state_dir: OptionalDirectory = Field(
        default=Path("/var/lib/overlay-net"),
        description="directory of the node for the last desired state, which is used while the API server cannot be "
        "reached after a start; empty: off",
    )
    fence_after: Duration = Field(
        default=timedelta(minutes=10),
        description="the controller's fence_after: after that time the address may be somebody else's",
    )
    resurrect_for: Duration | None = Field(
        default=None,
        description="how old the last confirmation by the API may be for the last state to be brought back; less than "
        "fence_after, and by default nine tenths of it",
    )

    @field_validator("interface")
    @classmethod
    def _known_interface(cls, value: str, info: ValidationInfo) -> str:
        if "node_ip" in info.data:
            # Without it something is wrong there, which is said in its own place.
            parent_rule(value, info.data["node_ip"])
        return value

    @field_validator("resurrect_for")
    @classmethod
    def _before_the_fence(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        fence = info.data.get("fence_after")
        if value is not None and fence is not None and value >= fence:
            raise ValueError(f"less than fence_after ({fence.total_seconds():g}s), when others may get the address")
        return value

    @property
    def parent_rule(self) -> ParentRule:
        return parent_rule(self.interface, self.node_ip)

    @property
    def trusted_for(self) -> timedelta:
        """How old a confirmation of the last state may be."""
        return self.fence_after * (1 - MARGIN) if self.resurrect_for is None else self.resurrect_for


SettingsT = TypeVar("SettingsT", bound=_Settings)


def load(settings: type[SettingsT], config: Path | None) -> SettingsT:
    """The settings of one mode.

    Raises ConfigurationError, one line: which setting, which value, what is allowed.
    """
    environ = os.environ
    named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    values = _todays_names(_read(named)) if named else {}
    _refuse_unknown_variables(settings, environ)
    _take_phpipam_variables(values, environ)
    try:
        return settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_one_line(error, str(named or "settings"), environ)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"config file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"config file {path}: not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigurationError(f"config file {path}: must be a mapping of settings, not {type(content).__name__}")
    return content


def _todays_names(values: dict[str, Any]) -> dict[str, Any]:
    """The earlier operator's file, ``phpIPAM: {url, appID, subnetMap, insecureSkipTLSVerify}``, is read as it is."""
    renamed = {_EARLIER_NAMES.get(name, name): value for name, value in values.items()}
    section = renamed.get("phpipam")
    if isinstance(section, dict):
        renamed["phpipam"] = {_EARLIER_NAMES.get(name, name): value for name, value in section.items()}
    return renamed


def _take_phpipam_variables(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """PHPIPAM_USERNAME and PHPIPAM_PASSWORD, as the secret of the earlier operator was mounted."""
    if any(variable.upper().startswith(f"{ENV_PREFIX}PHPIPAM__") for variable in environ):
        # The whole section may stand in the environment.
        values.setdefault("phpipam", {})
    section = values.get("phpipam")
    if isinstance(section, dict):
        for name in SECRETS:
            if environ.get(f"PHPIPAM_{name.upper()}"):
                section[name] = environ[f"PHPIPAM_{name.upper()}"]


def _refuse_unknown_variables(settings: type[_Settings], environ: Mapping[str, str]) -> None:
    known = sorted(f"{ENV_PREFIX}{name.upper()}" for name in settings.model_fields)
    sections = {f"{ENV_PREFIX}{name.upper()}" for name, field in settings.model_fields.items() if _section(field)}
    for variable in environ:
        upper = variable.upper()
        if not upper.startswith(ENV_PREFIX) or upper == CONFIG_VARIABLE or _SERVICE_LINK.search(upper):
            continue
        name, nested, _ = upper.partition("__")
        if name not in known or (nested and name not in sections):
            raise ConfigurationError(f"environment {variable}: no such setting; known are {', '.join(known)}")


def _one_line(error: ValidationError, source: str, environ: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        variable = ENV_PREFIX + "__".join(path).upper()
        where = f"environment {variable}" if variable in environ else f"{source}: {'.'.join(path)}"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: no such setting")
        elif problem["type"] == "missing":
            lines.append(f"{where}: missing; set it in the config file or as {variable}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            shown = "" if _may_hold_secret(problem) else f"{problem['input']!r} "
            lines.append(f"{where}: {shown}is not allowed: {message}" if shown else f"{where}: {message}")
    return "; ".join(lines)


def _may_hold_secret(problem: ErrorDetails) -> bool:
    """Whether the value is not to be shown: a secret, a section or what stands in its place, a URL with a password."""
    value = problem["input"]
    where = str(problem["loc"][-1])
    section = isinstance(value, dict) or problem["type"].startswith("model_")
    return section or where in SECRETS or (where == "url" and "@" in str(value))


def describe(settings: type[_Settings]) -> str:
    """The settings of a mode as help text: name, default, meaning, and the variable that sets each."""
    lines = [f"settings (in the file, or as {ENV_PREFIX}NAME; nested ones as {ENV_PREFIX}SECTION__NAME):"]
    for name, field in settings.model_fields.items():
        section = _section(field)
        if section is not None:
            lines += [_entry(f"{name}.{inner}", each) for inner, each in section.model_fields.items()]
        else:
            lines.append(_entry(name, field))
    return "\n".join(lines)


def _section(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, be it optional."""
    candidates = (field.annotation, *get_args(field.annotation))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, Section)), None)


def _entry(name: str, field: FieldInfo) -> str:
    default = field.default
    if field.is_required():
        shown = "required"
    elif isinstance(default, timedelta):
        shown = f"default {default.total_seconds():g}s"
    else:
        shown = f"default {default}" if default not in (None, "") else "no default"
    return f"  {name:<18} {field.description} ({shown})"
