"""The Grafana dashboard: its panels are explained, fit the grid, and follow its variables."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = json.loads((ROOT / "charts" / "overlay-net" / "files" / "dashboard.json").read_text())
PANELS = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in GRAPHS for target in panel["targets"]]
VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
# Name and labels of each metric in an expression.
METRIC = re.compile(
    r"\b((?:overlay_net|leader_election|controller_runtime|workqueue|rest_client|process)_[a-z_]+)(\{.*?\})?"
)
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def test_panels_have_their_own_place_and_number() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        apart = [one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at] for at, size in ("xw", "yh")]
        assert any(apart), (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])
def test_every_panel_is_explained_and_has_unit_thresholds_and_legend(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    assert all(target["legendFormat"] for target in panel["targets"])
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[f"{title}: {query[:40]}" for title, query in QUERIES])
def test_every_query_follows_the_variables_and_names_documented_metrics(title: str, query: str) -> None:
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    documented.add("process_resident_memory_bytes")
    found = METRIC.findall(query)
    assert found
    for name, labels in found:
        assert SUFFIX.sub("", name) in documented, name
        assert 'cluster=~"$cluster", namespace=~"$namespace"' in labels


def test_variables_match_also_what_has_no_such_label() -> None:
    assert list(VARIABLES) == ["datasource", "cluster", "namespace", "node"]
    for name in ("cluster", "namespace", "node"):
        assert (VARIABLES[name]["includeAll"], VARIABLES[name]["allValue"]) == (True, ".*")
    used = set(re.findall(r"\$(\w+)", " ".join(query for _, query in QUERIES))) - {"__rate_interval"}
    assert used == VARIABLES.keys() - {"datasource"}


def test_numbers_that_stand_for_a_state_are_shown_as_words() -> None:
    for title in ("Leader", "IPAM availability", "IPAM credentials"):
        (panel,) = (each for each in GRAPHS if each["title"] == title)
        values = next(
            each["options"] for each in panel["fieldConfig"]["defaults"]["mappings"] if each["type"] == "value"
        )
        assert values.keys() == {"0", "1"}
