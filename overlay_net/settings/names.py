"""Names of the sources of settings."""

from typing import Final

CONFIG_VARIABLE: Final = "OVERLAY_CONFIG"
"""Environment variable with the path of the YAML file."""

ENV_PREFIX: Final = "OVERLAY_"
"""Prefix of the environment variables of settings."""
