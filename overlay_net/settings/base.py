"""Common settings of both modes, and their sources."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from overlay_net.settings.names import ENV_PREFIX
from overlay_net.settings.sections import LogSettings


class ModeSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    log: LogSettings = LogSettings()
    kubeconfig: Path | None = Field(default=None, description="kubeconfig file; default: the pod's service account")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The content of the file is passed as init values; the environment takes precedence over it.
        return env_settings, init_settings
