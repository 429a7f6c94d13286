"""`overlay-net sysdump`: one archive with what is needed to analyse a problem, without secrets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from overlay_net.adapters.kube import KubeApi
from overlay_net.adapters.kube.pods import Pods
from overlay_net.cli.archive import Archive
from overlay_net.cli.collect import Collector, choose_nodes, read_secrets
from overlay_net.cli.options import NODE_NAME, answer, cluster_options, namespace_option, output_option
from overlay_net.cli.release import find_release
from overlay_net.cli.snapshot import read_snapshot
from overlay_net.domain.diagnosis.redaction import Redactor
from overlay_net.domain.diagnosis.snapshot import Unread
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import Unavailable


@click.command()
@click.option(
    "--archive",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write, which must not exist; default: overlay-net-sysdump-TIME.tar.gz.",
)
@click.option(
    "--node",
    "nodes",
    type=NODE_NAME,
    multiple=True,
    help="Read the kernel of this node, and log and metrics of its agent; repeatable.",
)
@click.option(
    "--max-nodes",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Without --node: of how many nodes these are read, those with problems first.",
)
@click.option("--lines", type=click.IntRange(min=1), default=10000, show_default=True, help="Last lines of each log.")
@namespace_option
@cluster_options
@output_option
def sysdump(
    archive: Path | None, nodes: Sequence[str], max_nodes: int, lines: int, namespace: str, **options: Any
) -> int:
    """Write one archive with objects, events, logs, metrics and the kernels of nodes, to analyse a problem.

    Passwords, tokens and keys are removed, and Secrets are not archived: those of the namespace are only read, if that
    is allowed, to remove their values wherever they occur. What could not be read is listed in errors.txt of the
    archive. The timeout is that of each request.
    """
    path = archive or Path(f"overlay-net-sysdump-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz")

    async def read(api: KubeApi) -> "Dump":
        pods = Pods(api.connection, options["timeout"])
        snapshot = await read_snapshot(api, pods, namespace, "")
        if isinstance(snapshot.version, Unread):
            raise Unavailable(snapshot.version.message)
        release = await find_release(api, namespace)
        with Archive(path, Redactor(await read_secrets(api, release.namespace))) as target:
            collector = Collector(api, pods, target, release)
            await collector.collect(snapshot, choose_nodes(snapshot, nodes, max_nodes), lines)
        return Dump(target)

    return answer(read, options, limited=False)


@dataclass(frozen=True, slots=True)
class Dump:
    archive: Archive
    exit_code: int = 0

    def to_json(self) -> JsonObject:
        return {"archive": str(self.archive.path), "files": self.archive.members, "errors": self.archive.errors}

    def lines(self, width: int | None) -> Iterator[Text]:
        yield Text(f"{self.archive.path}: {self.archive.members} files")
        for error in self.archive.errors:
            yield Text(f"not collected: {error}", "yellow")
