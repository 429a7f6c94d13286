"""`overlay-net doctor [NODE]`: examines the whole chain, and names the first link of it that is broken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from overlay_net.adapters.kube import KubeApi
from overlay_net.adapters.kube.pods import Pods
from overlay_net.cli.options import NODE_NAME, answer, cluster_options, namespace_option, output_option, watch_option
from overlay_net.cli.output import columns, shorten
from overlay_net.cli.snapshot import read_snapshot
from overlay_net.domain.diagnosis.checks import diagnose, first_broken
from overlay_net.domain.diagnosis.finding import OK, UNKNOWN, Finding, Result
from overlay_net.model.api import JsonObject

SHOWN = 5
"""Maximum number of findings of one check that are shown as text."""


@click.command()
@click.argument("node", type=NODE_NAME, required=False)
@namespace_option
@cluster_options
@output_option
@watch_option
def doctor(node: str | None, namespace: str, **options: Any) -> int:
    """Examine the whole chain from the API server to the kernel, and name the first link of it that is broken.

    For every finding: what is wrong, why it matters, and how to fix it. With NODE, only this node is examined, and its
    kernel as well, by a command in the pod of its agent. The exit code is 1 if there is any problem.
    """

    async def read(api: KubeApi) -> "Diagnosis":
        pods = Pods(api.connection, options["timeout"])
        return Diagnosis(tuple(diagnose(await read_snapshot(api, pods, namespace, node or ""))), node or "")

    return answer(read, options)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    results: Sequence[Result]
    node: str = ""

    @property
    def exit_code(self) -> int:
        return 0 if first_broken(self.results) is None else 1

    def to_json(self) -> JsonObject:
        broken = first_broken(self.results)
        return {
            "firstBroken": broken.check.name if broken is not None else "",
            "checks": [
                {
                    "name": each.check.name,
                    "verdict": each.verdict,
                    "why": each.check.why,
                    "findings": [_finding_json(finding) for finding in each.findings],
                }
                for each in self.results
            ],
        }

    def lines(self, width: int | None) -> Iterator[Text]:
        alike: dict[tuple[Finding, ...], list[Result]] = {}
        for result in self.results:
            if result.findings:
                alike.setdefault(result.findings, []).append(result)
        for results in alike.values():
            yield from columns(None, _rows(*results), width)
            yield Text()
        passed = [each.check.name for each in self.results if not each.findings]
        if passed:
            yield from columns(None, [("ok", ", ".join(passed))], width)
        broken = first_broken(self.results)
        yield Text()
        if broken is not None:
            yield Text(f"first broken link: {broken.check.name}", "bold red")
            return
        kernel = f"the kernel of {self.node} included" if self.node else "kernels: overlay-net doctor NODE"
        unread = sum(each.verdict == UNKNOWN for each in self.results)
        if unread:
            total = len(self.results)
            yield Text(f"no problem found, but {unread} of {total} checks are unknown; {kernel}", "yellow")
        else:
            yield Text(f"no problem found; {kernel}", "green")


def _rows(result: Result, *others: Result) -> Iterator[tuple[str, str, str]]:
    """``others`` are checks with the same findings, such as that nothing may be read."""
    for number, finding in enumerate(result.findings[:SHOWN]):
        subjects = f"{shorten(finding.subjects)}: " if finding.subjects else ""
        yield finding.verdict, result.check.name if number == 0 else "", f"{subjects}{finding.what}"
        yield "", "", finding.fix if finding.verdict == OK else f"fix: {finding.fix}"
    if len(result.findings) > SHOWN:
        yield "", "", f"and {len(result.findings) - SHOWN} more findings; -o json has all"
    if others:
        yield "", "", f"the same for: {', '.join(each.check.name for each in others)}"
    elif result.verdict != OK:
        yield "", "", f"why it matters: {result.check.why}"


def _finding_json(finding: Finding) -> JsonObject:
    return {
        "verdict": finding.verdict,
        "subjects": list(finding.subjects),
        "what": finding.what,
        "fix": finding.fix,
    }
