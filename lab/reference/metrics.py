"""docs/metrics.md, from the metrics that overlay_net.ops declares."""

from pathlib import Path

from lab.reference.markdown import code, table
from overlay_net.ops.agent_metrics import AgentMetrics
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.metrics import MetricDeclaration

FILE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"

HEAD = """# Metrics

Written by `python -m lab.reference` from `overlay_net/ops`; a test holds it to that. Beside these,
both modes serve the usual `process_*` and `python_gc_*`. Alerts made of them, and what to do then:
[runbooks.md](runbooks.md). Who may read them: [ADR 10](adr/0010-metrics-without-authentication.md).
"""


def reference() -> str:
    """The whole text of the file."""
    controller = {each.name: each for each in ControllerMetrics().declared}
    agent = {each.name: each for each in AgentMetrics().declared}
    common = controller.keys() & agent.keys()
    parts = (
        ("Both modes", [each for name, each in controller.items() if name in common]),
        ("Controller", [each for name, each in controller.items() if name not in common]),
        ("Agent", [each for name, each in agent.items() if name not in common]),
    )
    return HEAD + "".join(f"\n## {title}\n\n{_table(metrics)}" for title, metrics in parts)


def _table(metrics: list[MetricDeclaration]) -> str:
    rows = ((code(each.name), each.kind, ", ".join(map(code, each.labels)), each.help) for each in metrics)
    return table(("metric", "kind", "labels", "meaning"), rows)
