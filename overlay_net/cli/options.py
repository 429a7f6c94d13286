"""What the commands for people share: their options, and how a command runs from its arguments to its exit code."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from overlay_net.adapters.kube import KubeApi
from overlay_net.cli.cluster import Access, connect, limit
from overlay_net.cli.output import Answer, show
from overlay_net.cli.values import parse_object_name, parse_seconds

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])

WATCH_INTERVAL = 2.0
WATCH_SHARE = 20
"""``--watch`` pauses this many times as long as a reading takes, so it costs the API server little."""


class Value(click.ParamType[T]):
    """A value that ``parse`` parses; its ValueError becomes a usage error."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if not isinstance(value, str):
            parsed: T = value
            return parsed
        try:
            return self._parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None


SECONDS = Value("TIME", parse_seconds)
NODE_NAME = Value("NAME", parse_object_name)


def cluster_options(function: Function) -> Function:
    """Options of every command that reads the cluster; they arrive as ``kubeconfig``, ``context`` and ``timeout``."""
    for option in (
        click.option(
            "--timeout",
            type=SECONDS,
            default="30s",
            show_default=True,
            help="How long to wait for an answer from the API server.",
        ),
        click.option(
            "--context", default="", metavar="NAME", help="Context of the kubeconfig; default: the current one."
        ),
        click.option(
            "--kubeconfig",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Default: as kubectl, else the pod's service account.",
        ),
    ):
        function = option(function)
    return function


def namespace_option(function: Function) -> Function:
    return click.option(
        "-n",
        "--namespace",
        default="",
        metavar="NAME",
        help="Namespace of the release; default: that of the release that manages the cluster.",
    )(function)


def output_option(function: Function) -> Function:
    return click.option(
        "-o", "--output", type=click.Choice(["json", "yaml"]), help="Format of the answer; default: text."
    )(function)


def watch_option(function: Function) -> Function:
    return click.option("-w", "--watch", is_flag=True, help="Show the answer again whenever it changes, until Ctrl-C.")(
        function
    )


def answer(read: Callable[[KubeApi], Awaitable[Answer]], options: dict[str, Any], *, limited: bool = True) -> int:
    """Connect, read, and show the answer. Returns the exit code.

    ``options`` are those of the functions above. ``limited``: the timeout is that of the whole reading, not of each of
    its requests.
    """
    access = Access(options["kubeconfig"], options["context"], options["timeout"])
    return asyncio.run(_answer(read, access, options.get("output") or "", options.get("watch", False), limited))


async def _answer(
    read: Callable[[KubeApi], Awaitable[Answer]], access: Access, output: str, watch: bool, limited: bool
) -> int:
    async with connect(access) as api:
        shown = None
        while True:
            began = asyncio.get_running_loop().time()
            async with limit(access.timeout if limited else None):
                found = await read(api)
            content = found.to_json()
            if content != shown:
                show(found, output)
                sys.stdout.flush()
                shown = content
            if not watch:
                return found.exit_code
            taken = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(WATCH_INTERVAL, WATCH_SHARE * taken))
