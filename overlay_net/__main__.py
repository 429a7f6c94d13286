"""Entry point: runs the command that the arguments name, and turns errors into messages and exit codes."""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overlay_net.cli.arguments import parse_arguments
from overlay_net.model.errors import ConfigurationError, KernelError
from overlay_net.ops.logs import configure
from overlay_net.runtime.child_process import ChildFailed, ChildProcess
from overlay_net.runtime.gc_tuning import tune_gc
from overlay_net.settings.agent_config import AgentConfig

if TYPE_CHECKING:
    from overlay_net.settings.controller import ControllerSettings

EXIT_FAILED = 1
EXIT_USAGE = 2
EXTRA = ("click", "rich")
"""The packages of the extra ``cli``, which no process needs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0 on success, EXIT_FAILED, or EXIT_USAGE for invalid arguments and settings."""
    arguments = sys.argv[1:] if argv is None else argv
    # Until a command configures logs, those of libraries would appear beside its own messages.
    logging.getLogger().addHandler(logging.NullHandler())
    if not arguments or arguments[0] not in PROCESSES:
        return run_for_people(arguments)
    parsed = parse_arguments(arguments)
    try:
        return PROCESSES[parsed.mode](parsed)
    except ConfigurationError as error:
        print(f"overlay-net {parsed.mode}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ChildFailed as error:
        print(f"overlay-net {parsed.mode}: the process that reads the settings {error}", file=sys.stderr)
        return EXIT_FAILED


# Each command imports only what it needs: the agent must remain small, and the controller loads a Kubernetes client.


def run_controller(arguments: argparse.Namespace) -> int:
    from overlay_net.settings.controller import ControllerSettings
    from overlay_net.settings.loading import load

    settings = load(ControllerSettings, arguments.config)
    configure(settings.log.level, settings.log.format)
    if arguments.drain:
        return _drain(settings, arguments)

    import uvloop

    from overlay_net.controller.run import run

    tune_gc()
    run_until_signal(run(settings), uvloop.new_event_loop)
    return 0


def _drain(settings: "ControllerSettings", arguments: argparse.Namespace) -> int:
    from overlay_net.controller.drain import Deployment, drain

    deployment = None
    if arguments.scale_down:
        namespace, name = arguments.scale_down
        deployment = Deployment(namespace, name, arguments.replicas)
    problem = "interrupted"

    async def main() -> None:
        nonlocal problem
        problem = await drain(settings, deployment, arguments.timeout, lambda text: print(text, flush=True))

    run_until_signal(main(), None)
    if problem:
        print(f"overlay-net controller --drain: {problem}", file=sys.stderr)
        return EXIT_FAILED
    print("drain complete")
    return 0


def run_agent(arguments: argparse.Namespace) -> int:
    # In a child process: pydantic would take a third of the memory of an agent that is idle.
    loading = ChildProcess(partial(_load_agent_config, arguments.config))
    if arguments.teardown:
        return _teardown(loading.result())

    from overlay_net.agent.run import run

    config = loading.result()
    configure(config.log_level, config.log_format)
    tune_gc()
    # Without uvloop, which has no advantage for an idle agent and does not support netlink sockets.
    run_until_signal(run(config), None)
    return 0


def _load_agent_config(file: Path | None) -> AgentConfig:
    from overlay_net.settings.agent import AgentSettings
    from overlay_net.settings.loading import load

    return load(AgentSettings, file).config


def _teardown(config: AgentConfig) -> int:
    from overlay_net.agent.teardown import teardown

    configure(config.log_level, config.log_format)
    failures = asyncio.run(teardown(config, print))
    for failure in failures:
        print(f"overlay-net agent --teardown: {failure}", file=sys.stderr)
    return EXIT_FAILED if failures else 0


def run_until_signal(
    main: Coroutine[Any, Any, None], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
) -> None:
    """Run ``main`` until it ends or SIGTERM or SIGINT cancels it. The next run completes interrupted work."""

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


def run_for_people(arguments: Sequence[str]) -> int:
    """Run a command of the extra ``cli``; without it, the help of all others is shown."""
    try:
        from overlay_net.cli.app import PLUGIN, PROGRAM, run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        if not arguments or arguments[0].startswith("-"):
            parse_arguments(arguments)
        command = f"overlay-net {' '.join(arguments[:1])}"
        print(f"{command}: no module {error.name}; install it: pip install 'overlay-net[cli]'", file=sys.stderr)
        return EXIT_USAGE
    return run(arguments, PLUGIN if Path(sys.argv[0]).name.startswith("kubectl-") else PROGRAM)


def update_crds(arguments: argparse.Namespace) -> int:
    from overlay_net.cli.crds import apply_crds, remove_crds

    common = (arguments.directory, arguments.kubeconfig, arguments.timeout, print)
    problem = asyncio.run(remove_crds(*common, arguments.release) if arguments.remove else apply_crds(*common))
    if problem:
        print(f"overlay-net crds: {problem}", file=sys.stderr)
    return EXIT_FAILED if problem else 0


def write_node_state(_: argparse.Namespace) -> int:
    from overlay_net.cli.node_state import read_node_state

    try:
        json.dump(read_node_state(), sys.stdout)
    except KernelError as error:
        print(f"overlay-net node-state: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def check_release(arguments: argparse.Namespace) -> int:
    from overlay_net.cli.preflight import Release, preflight

    release = Release(
        arguments.namespace,
        arguments.directory,
        admission=arguments.admission,
        agents=arguments.node_selector,
        controllers=arguments.controllers,
        port=arguments.port,
        own_pod=arguments.own_pod,
        label=arguments.label_namespace,
    )
    problems = asyncio.run(preflight(release, arguments.kubeconfig))
    for problem in problems:
        print(f"overlay-net preflight: {problem}", file=sys.stderr)
    return EXIT_FAILED if problems else 0


PROCESSES: dict[str, Callable[[argparse.Namespace], int]] = {
    "controller": run_controller,
    "agent": run_agent,
    "crds": update_crds,
    "node-state": write_node_state,
    "preflight": check_release,
}

if __name__ == "__main__":
    sys.exit(main())
