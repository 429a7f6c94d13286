"""Sections of the settings, such as ``leader_election`` and ``phpipam``."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from overlay_net.settings.values import (
    Bind,
    Duration,
    Interval,
    SubnetId,
    Url,
    ZoneName,
)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="lowest level to write")
    format: Literal["text", "json"] = Field(default="text", description="text for people, json for log collectors")


class ControllerHttp(Section):
    bind: Bind = Field(default=":8080", description="listen address for /metrics, /healthz and /readyz")


class AgentHttp(Section):
    bind: Bind = Field(default=":9477", description="listen address for /metrics, /healthz and /readyz")


class LeaderElectionSettings(Section):
    enabled: bool = Field(default=True, description="whether replicas elect a leader; false for a single controller")
    lease_name: str = Field(
        default="overlay-net-controller",
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="name of the Lease, shared by all replicas",
    )
    namespace: str = Field(
        default="",
        max_length=63,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        description="namespace of the Lease; default: POD_NAMESPACE, as set by the chart",
    )
    identity: str = Field(
        default="",
        max_length=200,
        description="identity of this replica in the Lease, before a random suffix; default: POD_NAME or the host name",
    )
    lease_duration: Duration = Field(
        default=timedelta(seconds=15),
        description="how long after the last renewal another replica may take over; at least 1s",
    )
    renew_deadline: Interval = Field(
        default=timedelta(seconds=10),
        description="how long after the last renewal a leader exits; less than lease_duration",
    )
    retry_period: Interval = Field(
        default=timedelta(seconds=2),
        description="interval of attempts to get or renew the Lease; less than renew_deadline",
    )
    cluster_lease_duration: Duration = Field(
        default=timedelta(minutes=10),
        description="how long after the last renewal another release may take over the cluster (Lease overlay-net in "
        "kube-system); at least 1s, and at least twice lease_duration is used",
    )

    @field_validator("lease_duration", "cluster_lease_duration")
    @classmethod
    def _is_at_least_one_second(cls, value: timedelta) -> timedelta:
        # leaseDurationSeconds is an integer.
        if value < timedelta(seconds=1):
            raise ValueError("must be at least 1s")
        return value

    @field_validator("renew_deadline")
    @classmethod
    def _is_below_lease_duration(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        duration = info.data.get("lease_duration")
        if duration is not None and value >= duration:
            raise ValueError(
                f"must be less than lease_duration ({duration.total_seconds():g}s), when another replica may take over"
            )
        return value

    @field_validator("retry_period")
    @classmethod
    def _is_below_renew_deadline(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        deadline = info.data.get("renew_deadline")
        # Jitter makes an interval up to 20% longer.
        if deadline is not None and value * 1.2 >= deadline:
            raise ValueError(f"must be less than five sixths of renew_deadline ({deadline.total_seconds():g}s)")
        return value


class PhpIpamSettings(Section):
    url: Url = Field(description="URL of phpIPAM, e.g. https://phpipam.example.com")
    app_id: str = Field(min_length=1, description="App id of the API app in phpIPAM (appID of the earlier operator)")
    subnet_map: dict[ZoneName, list[SubnetId]] | None = Field(
        default=None, description="subnet ids by zone, in order of preference; stored as OverlayPools (subnetMap)"
    )
    auth: Literal["token", "code"] = Field(
        default="token",
        description="token: user name and password (app security ssl_token or none); code: app code (ssl_code)",
    )
    credentials_dir: Path | None = Field(
        default=None, description="mounted secret with the files username and password, or code; reloaded on change"
    )
    username: SecretStr | None = Field(default=None, description="user name if no secret is mounted; PHPIPAM_USERNAME")
    password: SecretStr | None = Field(default=None, description="password if no secret is mounted; PHPIPAM_PASSWORD")
    code: SecretStr | None = Field(default=None, description="app code if no secret is mounted; PHPIPAM_CODE")
    insecure_skip_tls_verify: bool = Field(
        default=False, description="do not verify the server's certificate (insecureSkipTLSVerify)"
    )
    ca_file: Path | None = Field(default=None, description="CA certificates to trust instead of the system ones")
    proxy: str = Field(default="", description="HTTP proxy for phpIPAM; proxies of the environment are ignored")
    timeout: Interval = Field(
        default=timedelta(seconds=45), description="timeout of one call; longer than app_lock_wait of the server (30s)"
    )
    lock_wait: Duration = Field(
        default=timedelta(seconds=35),
        description="how long after a lost response to a reservation its row may still appear",
    )
    concurrency: int = Field(default=8, ge=1, le=64, description="limit of concurrent reads, and of concurrent writes")
    refresh_interval: Interval = Field(
        default=timedelta(minutes=5),
        description="how often to read usage and gateway of each pool; at most a minute for a pool that is not ready",
    )
    mark_field: str = Field(
        default="note",
        pattern=r"^(note|custom_\w+)$",
        description="field of a row for the owner tag: note, or a custom field of at least 512 characters",
    )
    touch_interval: Duration = Field(
        default=timedelta(days=2),
        description="how often to update lastSeen of addresses in use, so that phpIPAM's script that removes offline "
        "addresses leaves them alone; 0: never",
    )

    @model_validator(mode="after")
    def _has_credentials(self) -> "PhpIpamSettings":
        if self.auth == "code" and not self.url.startswith("https://"):
            raise ValueError("phpIPAM accepts an app code over https only: url must begin with https://")
        names = ("code",) if self.auth == "code" else ("username", "password")
        missing = [name for name in names if getattr(self, name) is None]
        if self.credentials_dir is None and missing:
            variables = " and ".join(f"PHPIPAM_{name.upper()}" for name in missing)
            raise ValueError(f"no credentials: set credentials_dir to the mounted secret, or {variables}")
        return self

    @property
    def fixed_secret(self) -> tuple[SecretStr | None, SecretStr | None, SecretStr | None]:
        return self.username, self.password, self.code
