"""The sections of the settings: one for each thing that has several."""

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
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is written"
    )
    format: Literal["text", "json"] = Field(default="text", description="text for people, json for log collectors")


class ControllerHttp(Section):
    bind: Bind = Field(default=":8080", description="where /metrics, /healthz and /readyz are served")


class AgentHttp(Section):
    bind: Bind = Field(default=":9477", description="where /metrics, /healthz and /readyz are served")


class LeaderElectionSettings(Section):
    enabled: bool = Field(
        default=True, description="whether one of several controllers is elected; false for one that is always alone"
    )
    lease_name: str = Field(
        default="overlay-net-controller",
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="name of the Lease that all replicas share",
    )
    namespace: str = Field(
        default="",
        max_length=63,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        description="namespace of the Lease; default: POD_NAMESPACE, which the chart sets",
    )
    identity: str = Field(
        default="",
        max_length=200,
        description="what the Lease calls this replica, before a random suffix; default: POD_NAME, else the host name",
    )
    lease_duration: Duration = Field(
        default=timedelta(seconds=15),
        description="how long the others wait for a leader that is silent; at least 1s",
    )
    renew_deadline: Interval = Field(
        default=timedelta(seconds=10),
        description="after which time without renewal a leader ends itself; less than lease_duration",
    )
    retry_period: Interval = Field(
        default=timedelta(seconds=2), description="pause between two tries to get or renew; less than renew_deadline"
    )

    @field_validator("lease_duration")
    @classmethod
    def _whole(cls, value: timedelta) -> timedelta:
        # A Lease counts in whole seconds.
        if value < timedelta(seconds=1):
            raise ValueError("at least 1s")
        return value

    @field_validator("renew_deadline")
    @classmethod
    def _before_the_end(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        duration = info.data.get("lease_duration")
        if duration is not None and value >= duration:
            raise ValueError(f"less than lease_duration ({duration.total_seconds():g}s), when others may lead")
        return value

    @field_validator("retry_period")
    @classmethod
    def _in_time(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        deadline = info.data.get("renew_deadline")
        # Pauses are up to a fifth longer.
        if deadline is not None and value * 1.2 >= deadline:
            raise ValueError(f"less than five sixths of renew_deadline ({deadline.total_seconds():g}s)")
        return value


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
