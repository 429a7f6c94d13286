"""The command line: which mode, which configuration file, and what an error looks like to the caller."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from overlay_net import __version__
from overlay_net.model.errors import ApiError, ConfigurationError
from overlay_net.ops.logs import configure
from overlay_net.runtime.gc_tuning import tune_gc
from overlay_net.settings import (
    CONFIG_VARIABLE,
    ENV_PREFIX,
    AgentSettings,
    ControllerSettings,
    describe,
    load,
    parse_duration,
)

EXIT_FAILED = 1
EXIT_USAGE = 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="overlay-net",
        description="Overlay addresses and static routes for Kubernetes nodes, from IPAM to kernel, without NAT.",
    )
    top.add_argument("--version", action="version", version=f"overlay-net {__version__}")
    modes = top.add_subparsers(dest="mode", required=True, metavar="MODE")
    for mode, settings, text in (
        (
            "controller",
            ControllerSettings,
            "give every node an address and its routes; of several in a cluster one leads",
        ),
        ("agent", AgentSettings, "bring this node's kernel to what its NodeOverlayIp says; one on each node"),
    ):
        sub = _command(
            modes, mode, text, epilog=describe(settings), formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sub.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help=f"YAML file with settings; default: ${CONFIG_VARIABLE}. {ENV_PREFIX}* variables win over it",
        )
        if mode == "controller":
            sub.add_argument(
                "--drain",
                action="store_true",
                help="before an uninstall: give back the address of every node once its agent let go, remove every "
                "NodeOverlayIp, say what is waited for, and end",
            )
            sub.add_argument(
                "--scale-down",
                type=_deployment,
                metavar="NAMESPACE/NAME",
                help="with --drain: the Deployment of the running controllers, scaled to nothing first",
            )
            sub.add_argument(
                "--timeout", type=_seconds, default=240.0, metavar="TIME", help="with --drain; default: 4m"
            )
        if mode == "agent":
            sub.add_argument(
                "--teardown",
                action="store_true",
                help="remove what is ours from this node (routes, address, link, last state), say what, and end; "
                "no API server is needed, and no agent may run on the node meanwhile",
            )
    _add_status(modes)
    _add_crds(modes)
    return top


def _command(modes: Any, name: str, text: str, **options: Any) -> argparse.ArgumentParser:
    """``text`` in the list of commands, and as a sentence in the command's own help."""
    found: argparse.ArgumentParser = modes.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", **options
    )
    return found


def _add_status(modes: Any) -> None:
    text = "say on one screen how much is as it should be and what is wrong; exit code 1: something is"
    sub = _command(modes, "status", text)
    sub.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: as kubectl, else the pod's account")
    sub.add_argument(
        "--wait", type=_seconds, default=0.0, metavar="TIME", help="look again until all is well; e.g. 60s"
    )
    sub.add_argument(
        "--connect",
        type=_target,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="also whether this on-premise TCP server can be reached from here, and from which address; repeatable",
    )


def _add_crds(modes: Any) -> None:
    sub = _command(modes, "crds", "bring the CustomResourceDefinitions of this version into the cluster, and end")
    sub.add_argument("--directory", type=Path, required=True, metavar="DIR", help="folder with one definition a file")
    sub.add_argument("--remove", action="store_true", help="delete them instead, with all objects of their kinds")
    sub.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: the pod's service account")
    sub.add_argument("--timeout", type=_seconds, default=60.0, metavar="TIME", help="how long to try; default: 60s")


def _deployment(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise argparse.ArgumentTypeError(
            f"{text!r}: a namespace and a name, such as overlay-net/overlay-net-controller"
        )
    return namespace, name


def _target(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r}: a host and a port, such as 192.168.0.10:443 or [fd00::1]:443")
    return host.strip("[]"), int(port)


def _seconds(text: str) -> float:
    try:
        value = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    assert isinstance(value, (int, float))
    return float(value)


def run_until_signal(
    main: Coroutine[Any, Any, None], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
) -> None:
    """Run ``main``; SIGTERM and SIGINT cancel it. No clean-up is owed: the next run finishes what this one began."""

    async def supervised() -> None:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(supervised())


def main(argv: Sequence[str] | None = None) -> int:
    commands = parser()
    arguments = commands.parse_args(argv)
    if arguments.mode == "controller" and arguments.scale_down and not arguments.drain:
        commands.error("--scale-down: only with --drain")
    try:
        if arguments.mode == "status":
            return _status(arguments)
        if arguments.mode == "crds":
            return _crds(arguments)
        if arguments.mode == "controller" and arguments.drain:
            return _drain(load(ControllerSettings, arguments.config), arguments)
        if arguments.mode == "controller":
            _controller(load(ControllerSettings, arguments.config))
        elif arguments.teardown:
            return _teardown(load(AgentSettings, arguments.config))
        else:
            _agent(load(AgentSettings, arguments.config))
    except ConfigurationError as error:
        print(f"overlay-net {arguments.mode}: {error}", file=sys.stderr)
        return EXIT_USAGE
    return 0


# Each mode imports only its own half: the agent must stay small, the controller brings the Kubernetes client.


def _controller(settings: ControllerSettings) -> None:
    import uvloop

    from overlay_net.controller.run import run

    configure(settings.log.level, settings.log.format)
    run_until_signal(run(settings), uvloop.new_event_loop)


def _drain(settings: ControllerSettings, arguments: argparse.Namespace) -> int:
    from overlay_net.controller.drain import Deployment, drain

    configure(settings.log.level, settings.log.format)
    deployment = Deployment(*arguments.scale_down) if arguments.scale_down else None

    trouble = "it was interrupted"

    async def main() -> None:
        nonlocal trouble
        trouble = await drain(settings, deployment, arguments.timeout, lambda text: print(text, flush=True))

    run_until_signal(main(), None)
    if trouble:
        print(f"overlay-net controller --drain: {trouble}", file=sys.stderr)
        return EXIT_FAILED
    print("everything is given back")
    return 0


def _agent(settings: AgentSettings) -> None:
    from overlay_net.agent.run import run

    configure(settings.log.level, settings.log.format)
    tune_gc()
    # Not uvloop: an idle agent gains nothing from it, and netlink sockets do not start under it.
    run_until_signal(run(settings), None)


def _status(arguments: argparse.Namespace) -> int:
    from overlay_net.cli.status import status

    try:
        well = asyncio.run(
            status(arguments.kubeconfig or _usual_kubeconfig(), arguments.wait, arguments.connect, print)
        )
    except ApiError as error:
        print(f"overlay-net status: not known: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0 if well else EXIT_FAILED


def _usual_kubeconfig() -> Path | None:
    """What kubectl would take; None within a pod."""
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    usual = Path.home() / ".kube" / "config"
    return usual if usual.exists() else None


def _crds(arguments: argparse.Namespace) -> int:
    from overlay_net.cli.crds import apply_crds, remove_crds

    bring = remove_crds if arguments.remove else apply_crds
    trouble = asyncio.run(bring(arguments.directory, arguments.kubeconfig, arguments.timeout, print))
    if trouble:
        print(f"overlay-net crds: {trouble}", file=sys.stderr)
    return EXIT_FAILED if trouble else 0


def _teardown(settings: AgentSettings) -> int:
    from overlay_net.agent.teardown import teardown

    configure(settings.log.level, settings.log.format)
    failures = asyncio.run(teardown(settings, print))
    for failure in failures:
        print(f"overlay-net agent --teardown: {failure}", file=sys.stderr)
    return EXIT_FAILED if failures else 0


if __name__ == "__main__":
    sys.exit(main())
