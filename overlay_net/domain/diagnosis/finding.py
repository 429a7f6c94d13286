"""What one check of `overlay-net doctor` finds: what is wrong, with which objects, and how to fix it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from overlay_net.domain.diagnosis.snapshot import NotRead, Snapshot

OK: Final = "ok"
PROBLEM: Final = "problem"
WARNING: Final = "warning"
UNKNOWN: Final = "unknown"
ORDER: Final = (PROBLEM, WARNING, UNKNOWN, OK)
"""The verdicts, the worst first."""

FIX_UNREAD: Final = (
    "if access is forbidden, bind the ClusterRole <release>-diagnose, and the Role of that name in the namespace of "
    "the release, to your user; else fix what is broken above"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """``subjects`` are the objects concerned, such as names of nodes; empty: the cluster.

    A finding may also be ``ok``: what is worth knowing, and in ``fix`` how it can be otherwise.
    """

    verdict: str
    what: str
    fix: str
    subjects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    why: str
    """Why it matters."""
    find: Callable[[Snapshot], Iterator[Finding]]
    """Yields what is wrong. Raises NotRead."""
    of_kernel: bool = False
    """Whether it examines nothing but kernels."""


@dataclass(frozen=True, slots=True)
class Result:
    check: Check
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        return min((each.verdict for each in self.findings), key=ORDER.index, default=OK)


def run_check(check: Check, snapshot: Snapshot) -> Result:
    """Findings with the same text are one; what could not be examined is unknown."""
    found: list[Finding] = []
    try:
        found.extend(check.find(snapshot))
    except NotRead as unread:
        found.append(Finding(UNKNOWN, f"not examined: {unread}", FIX_UNREAD))
    return Result(check, tuple(sorted(_group(found), key=lambda each: ORDER.index(each.verdict))))


def _group(findings: Iterable[Finding]) -> Iterator[Finding]:
    """One finding for each text; the fix, which may name an object, is that of the first."""
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for each in findings:
        grouped.setdefault((each.verdict, each.what), []).append(each)
    for same in grouped.values():
        names = dict.fromkeys(name for each in same for name in each.subjects)
        yield replace(same[0], subjects=tuple(names))
