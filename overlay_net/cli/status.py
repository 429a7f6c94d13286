"""`overlay-net status`: what is wrong, grouped by cause, with the next command to type; then the counts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from overlay_net.adapters.kube import KubeApi
from overlay_net.cli.cluster import limit
from overlay_net.cli.health import Health, read_cluster, wait_healthy
from overlay_net.cli.options import SECONDS, Value, answer, cluster_options, output_option, watch_option
from overlay_net.cli.output import columns, shorten
from overlay_net.cli.values import parse_selector, parse_target
from overlay_net.domain.status.overview import Cause, Overview
from overlay_net.model.api import JsonObject
from overlay_net.model.names import DEFAULT_NODE_SELECTOR

MESSAGES = 5
"""Maximum number of different messages of one cause that are shown."""


@click.command()
@click.option("--wait", type=SECONDS, default="0s", help="Wait up to TIME until everything is ready, e.g. 60s.")
@click.option(
    "--connect",
    "targets",
    type=Value("HOST:PORT", parse_target),
    multiple=True,
    help="Also test whether this on-premises TCP server is reachable from here, and show the source address; "
    "repeatable.",
)
@click.option(
    "-l",
    "--node-selector",
    type=Value("SELECTOR", parse_selector),
    default=DEFAULT_NODE_SELECTOR,
    help="Label selector, as in kubectl, of the Nodes on which an agent runs, if agent.nodeSelector or "
    "agent.excludeNodes of the chart are set; default: no Windows and no virtual Nodes.",
)
@cluster_options
@output_option
@watch_option
def status(**options: Any) -> int:
    """Summarise health on one screen: what is wrong first, grouped by cause.

    The exit code is 1 if anything is not ready.
    """

    async def read(api: KubeApi) -> "Summary":
        async def read_once() -> Overview:
            async with limit(options["timeout"]):
                return await read_cluster(api, options["node_selector"])

        return Summary(await wait_healthy(read_once, options["targets"], options["wait"]))

    return answer(read, options, limited=False)


@dataclass(frozen=True, slots=True)
class Summary:
    health: Health

    @property
    def exit_code(self) -> int:
        return 0 if self.health.healthy else 1

    def to_json(self) -> JsonObject:
        cluster = self.health.cluster
        return {
            "healthy": self.health.healthy,
            "causes": [_cause_json(cause) for cause in cluster.causes],
            "counts": list(cluster.counts),
            "targets": [{"connected": each.connected, "message": each.line} for each in self.health.targets],
        }

    def lines(self, width: int | None) -> Iterator[Text]:
        for cause in self.health.cluster.causes:
            yield from columns(None, _rows(cause), width)
            yield Text(f"      next: {cause.next_command}", "bold")
            yield Text()
        yield from map(Text, self.health.cluster.counts)
        for target in self.health.targets:
            yield Text(target.line, "" if target.connected else "red")
        if self.health.healthy:
            yield Text()
            yield Text("healthy", "green")


def _rows(cause: Cause) -> Iterator[tuple[str, str, str]]:
    for number, finding in enumerate(cause.findings[:MESSAGES]):
        yield (cause.kind if number == 0 else "").ljust(4), shorten(finding.names), finding.message
    rest = cause.findings[MESSAGES:]
    if rest:
        names = sum(len(each.names) for each in rest)
        yield "", f"{names} more", f"{cause.reason} with other messages"


def _cause_json(cause: Cause) -> JsonObject:
    return {
        "kind": cause.kind,
        "reason": cause.reason,
        "findings": [{"names": list(each.names), "message": each.message} for each in cause.findings],
        "next": cause.next_command,
    }
