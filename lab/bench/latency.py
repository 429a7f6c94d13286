"""Real agents on a few nodes: seconds until one more StaticRoute is in the last kernel and counted, and bytes for it.

With another version of the product, both run side by side and take turns, each on nodes of its own.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from lab.bench.measure import Options, Row

NODES = (3, 10, 30)
SAMPLES = 7
FIGURES = {"placed": "in the last kernel", "counted": "counted in its status", "bytes": "bytes on the wire per node"}
GOALS = {
    "placed": dict.fromkeys(NODES, 0.6),
    "counted": {3: 0.15, 10: 0.25, 30: 0.6},
    "bytes": dict.fromkeys(NODES, 0.5),
}
"""At most this share of the version before route slices."""


def bench_latency(_: Path, options: Options) -> list[Row]:
    rows = []
    for nodes in (options.nodes,) if options.nodes else NODES:
        with ExitStack() as stack:
            labs = {"this": stack.enter_context(_lab(nodes, None))}
            if options.against is not None:
                labs["other"] = stack.enter_context(_lab(nodes, options.against))
            samples: dict[str, list[dict[str, float]]] = {version: [] for version in labs}
            for _round in range(SAMPLES):
                for version, lab in labs.items():
                    samples[version].append(_sample(lab))
        rows += _rows(nodes, samples)
    return rows


@contextmanager
def _lab(nodes: int, checkout: Path | None) -> Iterator["subprocess.Popen[str]"]:
    """A lab in private namespaces of its own, with ready nodes."""
    module = [sys.executable, "-m", "lab.bench.latency_lab", f"--nodes={nodes}"]
    chosen = [] if checkout is None else [f"--checkout={checkout}"]
    command = [sys.executable, "-m", "lab.net.private", *module, *chosen]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lab:
        try:
            assert lab.stdout is not None
            if lab.stdout.readline() != "ready\n":
                raise SystemExit("bench: the lab has ended")
            yield lab
        finally:
            assert lab.stdin is not None
            lab.stdin.close()
            lab.wait(60)


def _sample(lab: "subprocess.Popen[str]") -> dict[str, float]:
    assert lab.stdin is not None and lab.stdout is not None
    lab.stdin.write("\n")
    lab.stdin.flush()
    line = lab.stdout.readline()
    if not line:
        raise SystemExit("bench: the lab has ended")
    sample: dict[str, float] = json.loads(line)
    return sample


def _rows(nodes: int, samples: dict[str, list[dict[str, float]]]) -> list[Row]:
    rows = []
    for figure, text in FIGURES.items():
        middle = {version: median(each[figure] for each in taken) for version, taken in samples.items()}
        ratio = ""
        if "other" in middle:
            goal = GOALS[figure].get(nodes)
            aim = f", goal {goal:g}" if goal else ""
            ratio = f"{middle['this'] / middle['other']:.2f} of {_unit(figure, middle['other'])}{aim}"
        least = min(each[figure] for each in samples["this"])
        measured = f"{_unit(figure, middle['this'])}, least {_unit(figure, least)}"
        rows.append(("latency", f"{nodes} agents: {text}", measured, ratio))
    return rows


def _unit(figure: str, value: float) -> str:
    return f"{value / 1000:.1f} kB" if figure == "bytes" else f"{1000 * value:.0f} ms"
