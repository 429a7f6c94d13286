"""Settings of both modes, read once at start from the environment and a YAML file."""

from overlay_net.settings.agent import AgentSettings
from overlay_net.settings.base import ENV_PREFIX
from overlay_net.settings.controller import ControllerSettings
from overlay_net.settings.loading import CONFIG_VARIABLE, describe, load
from overlay_net.settings.sections import LeaderElectionSettings, PhpIpamSettings
from overlay_net.settings.values import parse_duration

__all__ = [
    "CONFIG_VARIABLE",
    "ENV_PREFIX",
    "AgentSettings",
    "ControllerSettings",
    "LeaderElectionSettings",
    "PhpIpamSettings",
    "describe",
    "load",
    "parse_duration",
]
