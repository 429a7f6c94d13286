"""The dashboard has only what Grafana's published schema has: a misspelt option would be ignored without a word."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from lab.build.assets import find_programs
from lab.processes import CommandFailed, run
from lab.product import CHART

DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())


@pytest.fixture(scope="module")
def check() -> Callable[[dict[str, Any]], str]:
    (program,) = find_programs(["check-dashboard"]).values()
    return lambda dashboard: run([str(program)], stdin=json.dumps(dashboard))


def test_dashboard_conforms_to_the_schema_of_grafana(check: Callable[[dict[str, Any]], str]) -> None:
    check(DASHBOARD)


def find_panel(dashboard: dict[str, Any], kind: str) -> Any:
    return next(each for each in dashboard["panels"] if each["type"] == kind)


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "field of a panel": (lambda it: find_panel(it, "stat").update(tittle="a"), "tittle"),
    "option of a panel": (lambda it: find_panel(it, "stat")["options"].update(colourMode="value"), "colourMode"),
    "option of a graph": (
        lambda it: find_panel(it, "timeseries")["fieldConfig"]["defaults"]["custom"].update(lineWidht=1),
        "lineWidht",
    ),
    "type": (lambda it: find_panel(it, "timeseries")["gridPos"].update(w="wide"), "gridPos"),
    "query": (lambda it: find_panel(it, "stat")["targets"][0].update(expression="up"), "expression"),
    "variable": (lambda it: it["templating"]["list"][1].update(multiple=True), "multiple"),
}


@pytest.mark.parametrize(("change", "named"), WRONG.values(), ids=WRONG)
def test_what_the_schema_lacks_is_named(
    check: Callable[[dict[str, Any]], str], change: Callable[[dict[str, Any]], object], named: str
) -> None:
    dashboard = deepcopy(DASHBOARD)
    change(dashboard)
    with pytest.raises(CommandFailed, match=named):
        check(dashboard)
