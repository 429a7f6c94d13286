"""The command line of processes and jobs: commands, options, and the help text of each.

Those of commands for people are in `app`, which needs the extra ``cli``. Nothing here does.
"""

import argparse
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from overlay_net import __version__
from overlay_net.cli.values import parse_deployment, parse_seconds, parse_selector
from overlay_net.settings.names import CONFIG_VARIABLE, ENV_PREFIX

T = TypeVar("T")


class CommandParser(argparse.ArgumentParser):
    """Parses a command; its help lists the settings of the mode, which are imported only then."""

    def __init__(self, *, settings: Literal["controller", "agent"] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings

    def format_help(self) -> str:
        if self._settings is not None:
            # The formatter that keeps the lines of the settings wraps no description; argparse uses this width.
            width = shutil.get_terminal_size().columns - 2
            self.description = textwrap.fill(self.description or "", width)
            self.epilog = _describe(self._settings, width)
        return super().format_help()


COMMANDS: Final[Mapping[str, str]] = {
    "controller": "assign overlay addresses and routes to nodes; one of several replicas is elected leader",
    "agent": "reconcile this node's kernel with its NodeOverlayIp; one agent per node",
    "crds": "create or update the CustomResourceDefinitions of this version, and exit",
    "node-state": "write the network state of this node as JSON, for overlay-net doctor and sysdump",
    "preflight": "check that the cluster admits the pods of a release, and exit",
}
"""The description of each command."""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; ``mode`` is the command. Invalid ones print usage to standard error and exit with code 2."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.mode == "controller" and arguments.scale_down and not arguments.drain:
        parser.error("--scale-down requires --drain")
    if arguments.mode == "controller" and arguments.replicas and not arguments.scale_down:
        parser.error("--replicas requires --scale-down")
    if arguments.mode == "crds" and arguments.release and not arguments.remove:
        parser.error("--release requires --remove")
    return arguments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="overlay-net",
        description="Overlay addresses and static routes for Kubernetes nodes, from IPAM to kernel, without NAT.",
    )
    parser.add_argument("--version", action="version", version=f"overlay-net {__version__}")
    modes = parser.add_subparsers(dest="mode", required=True, metavar="MODE", parser_class=CommandParser)
    _add_controller(modes)
    _add_agent(modes)
    _add_crds(modes)
    _add_command(modes, "node-state")
    _add_preflight(modes)
    return parser


def _add_controller(modes: Any) -> None:
    controller = _add_mode(modes, "controller")
    controller.add_argument(
        "--drain",
        action="store_true",
        help="before an uninstall: delete every NodeOverlayIp, release each address once its agent has removed it, "
        "report progress, and exit",
    )
    controller.add_argument(
        "--scale-down",
        type=_checked(parse_deployment),
        metavar="NAMESPACE/NAME",
        help="with --drain: the Deployment of the running controllers, scaled to zero first",
    )
    controller.add_argument(
        "--replicas",
        type=int,
        default=0,
        metavar="N",
        help="with --scale-down: replicas to restore if the drain does not complete; default: the present number",
    )
    controller.add_argument(
        "--timeout", type=_checked(parse_seconds), default=240.0, metavar="TIME", help="with --drain; default: 4m"
    )


def _add_agent(modes: Any) -> None:
    agent = _add_mode(modes, "agent")
    agent.add_argument(
        "--teardown",
        action="store_true",
        help="remove the objects we manage (routes, address, link, checkpoint) from this node, list them, and exit; "
        "stop the agent on the node first; the API server is not needed",
    )


def _add_crds(modes: Any) -> None:
    crds = _add_command(modes, "crds")
    crds.add_argument(
        "--directory", type=Path, required=True, metavar="DIR", help="directory with one definition per file"
    )
    crds.add_argument(
        "--remove", action="store_true", help="delete the definitions instead, with all objects of their kinds"
    )
    crds.add_argument(
        "--release",
        default="",
        metavar="NAMESPACE/LEASE",
        help="with --remove: the Lease of the controllers of this release; nothing is deleted while another release "
        "manages the cluster",
    )
    crds.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: the pod's service account")
    crds.add_argument(
        "--timeout", type=_checked(parse_seconds), default=60.0, metavar="TIME", help="how long to retry; default: 60s"
    )


def _add_preflight(modes: Any) -> None:
    preflight = _add_command(modes, "preflight")
    preflight.add_argument("--namespace", required=True, metavar="NAME", help="namespace of the pods")
    preflight.add_argument(
        "--directory",
        type=Path,
        required=True,
        metavar="DIR",
        help="directory with agent.yaml and controller.yaml: metadata and spec of their pods",
    )
    preflight.add_argument(
        "--admission",
        action="append",
        choices=("agent", "controller"),
        default=[],
        help="create a pod of this component, as a dry run; repeatable",
    )
    preflight.add_argument(
        "--node-selector", type=_checked(parse_selector), metavar="SELECTOR", help="label selector of the agents' nodes"
    )
    preflight.add_argument(
        "--controllers",
        type=int,
        default=0,
        metavar="N",
        help="for a first install: number of controllers, which the quotas must leave room for, with all agents",
    )
    preflight.add_argument(
        "--own-pod", default="", metavar="NAME", help="name of the pod of this command, which counts in the quotas"
    )
    preflight.add_argument(
        "--port", type=int, default=0, metavar="N", help="port that must be free on the nodes; default: not checked"
    )
    preflight.add_argument(
        "--label-namespace", action="store_true", help="first let the namespace admit privileged pods, by its label"
    )
    preflight.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: the pod's service account")


def _describe(mode: Literal["controller", "agent"], width: int) -> str:
    from overlay_net.settings.agent import AgentSettings
    from overlay_net.settings.controller import ControllerSettings
    from overlay_net.settings.loading import describe

    return describe(AgentSettings if mode == "agent" else ControllerSettings, width)


def _add_mode(modes: Any, name: Literal["controller", "agent"]) -> argparse.ArgumentParser:
    """Add a command with settings, which its help lists."""
    command = _add_command(modes, name, settings=name, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"YAML file with settings; default: ${CONFIG_VARIABLE}. {ENV_PREFIX}* variables take precedence",
    )
    return command


def _add_command(modes: Any, name: str, **options: Any) -> argparse.ArgumentParser:
    """Add a command; its text is shown in the list of commands and, as a sentence, in the help of the command."""
    text = COMMANDS[name]
    command: argparse.ArgumentParser = modes.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", **options
    )
    return command


def _checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return ``parse`` with errors that argparse shows as they are."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked
