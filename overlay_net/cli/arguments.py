"""The command line: commands, options, and the help text of each."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from overlay_net import __version__
from overlay_net.model.names import DEFAULT_NODE_SELECTOR
from overlay_net.model.selectors import Selector
from overlay_net.settings.durations import parse_duration
from overlay_net.settings.names import CONFIG_VARIABLE, ENV_PREFIX


class CommandParser(argparse.ArgumentParser):
    """Parses a command; its help lists the settings of the mode, which are imported only then."""

    def __init__(self, *, settings: Literal["controller", "agent"] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings

    def format_help(self) -> str:
        if self._settings is not None:
            self.epilog = _describe(self._settings)
        return super().format_help()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; ``mode`` is the command. Invalid ones print usage to standard error and exit with code 2."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.mode == "controller" and arguments.scale_down and not arguments.drain:
        parser.error("--scale-down requires --drain")
    if arguments.mode == "controller" and arguments.replicas and not arguments.scale_down:
        parser.error("--replicas requires --scale-down")
    if arguments.mode == "crds" and arguments.release and not arguments.remove:
        parser.error("--release requires --remove")
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="overlay-net",
        description="Overlay addresses and static routes for Kubernetes nodes, from IPAM to kernel, without NAT.",
    )
    parser.add_argument("--version", action="version", version=f"overlay-net {__version__}")
    modes = parser.add_subparsers(dest="mode", required=True, metavar="MODE", parser_class=CommandParser)
    _add_controller(modes)
    _add_agent(modes)
    _add_status(modes)
    _add_crds(modes)
    return parser


def _add_controller(modes: Any) -> None:
    text = "assign overlay addresses and routes to nodes; one of several replicas is elected leader"
    controller = _add_mode(modes, "controller", text)
    controller.add_argument(
        "--drain",
        action="store_true",
        help="before an uninstall: delete every NodeOverlayIp, release each address once its agent has removed it, "
        "report progress, and exit",
    )
    controller.add_argument(
        "--scale-down",
        type=_parse_deployment,
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
        "--timeout", type=_parse_seconds, default=240.0, metavar="TIME", help="with --drain; default: 4m"
    )


def _add_agent(modes: Any) -> None:
    text = "reconcile this node's kernel with its NodeOverlayIp; one agent per node"
    agent = _add_mode(modes, "agent", text)
    agent.add_argument(
        "--teardown",
        action="store_true",
        help="remove the objects we manage (routes, address, link, checkpoint) from this node, list them, and exit; "
        "stop the agent on the node first; the API server is not needed",
    )


def _add_status(modes: Any) -> None:
    status = _add_command(modes, "status", "summarise health on one screen; exit 1 if anything is not ready")
    status.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="default: as kubectl, else the pod's service account"
    )
    status.add_argument(
        "--wait",
        type=_parse_seconds,
        default=0.0,
        metavar="TIME",
        help="wait up to TIME until everything is ready, e.g. 60s",
    )
    status.add_argument(
        "--timeout",
        type=_parse_seconds,
        default=30.0,
        metavar="TIME",
        help="how long to wait for an answer from the API server; default: 30s",
    )
    status.add_argument(
        "--connect",
        type=_parse_target,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="also test whether this on-premises TCP server is reachable from here, and show the source address; "
        "repeatable",
    )
    status.add_argument(
        "-l",
        "--node-selector",
        type=_parse_selector,
        default=DEFAULT_NODE_SELECTOR,
        metavar="SELECTOR",
        help="label selector, as in kubectl, of the Nodes on which an agent runs, if agent.nodeSelector or "
        "agent.excludeNodes of the chart are set; default: no Windows and no virtual Nodes",
    )


def _add_crds(modes: Any) -> None:
    crds = _add_command(modes, "crds", "create or update the CustomResourceDefinitions of this version, and exit")
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
        "--timeout", type=_parse_seconds, default=60.0, metavar="TIME", help="how long to retry; default: 60s"
    )


def _describe(mode: Literal["controller", "agent"]) -> str:
    from overlay_net.settings.agent import AgentSettings
    from overlay_net.settings.controller import ControllerSettings
    from overlay_net.settings.loading import describe

    return describe(AgentSettings if mode == "agent" else ControllerSettings)


def _add_mode(modes: Any, name: Literal["controller", "agent"], text: str) -> argparse.ArgumentParser:
    """Add a command with settings, which its help lists."""
    command = _add_command(modes, name, text, settings=name, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"YAML file with settings; default: ${CONFIG_VARIABLE}. {ENV_PREFIX}* variables take precedence",
    )
    return command


def _add_command(modes: Any, name: str, text: str, **options: Any) -> argparse.ArgumentParser:
    """Add a command; ``text`` is shown in the list of commands and, as a sentence, in the help of the command."""
    command: argparse.ArgumentParser = modes.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", **options
    )
    return command


def _parse_deployment(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise argparse.ArgumentTypeError(
            f"{text!r}: a namespace and a name are required, such as overlay-net/overlay-net-controller"
        )
    return namespace, name


def _parse_target(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(
            f"{text!r}: a host and a port are required, such as 192.168.0.10:443 or [fd00::1]:443"
        )
    return host.strip("[]"), int(port)


def _parse_selector(text: str) -> Selector:
    try:
        return Selector.parse_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _parse_seconds(text: str) -> float:
    try:
        value = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    assert isinstance(value, (int, float))
    return float(value)
