"""The limits of MTU and MSS in the StaticRoute schema are those of the kernel."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.product import CHART
from tests.dataplane.routes import prepare
from tests.fakes.netns import ip


def properties() -> dict[str, Any]:
    definition = yaml.safe_load(Path(CHART, "crds", "staticroutes.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return found


def stored(subnet: str, gateway: str, metric: str, value: int) -> int:
    """The value that the kernel stores for a metric of a route."""
    family = "-6" if ":" in subnet else "-4"
    ip(family, "route", "replace", subnet, "via", gateway, metric, str(value))
    (route,) = json.loads(ip("-j", family, "route", "show", subnet))
    return int(route["metrics"][0][metric])


@pytest.mark.parametrize(("subnet", "gateway"), [("11.0.0.0/24", "10.176.162.129"), ("fd11::/64", "fd00:7::1")])
@pytest.mark.parametrize("metric", ["mtu", "advmss"])
def test_schema_limits_are_those_of_the_kernel(eth0: None, metric: str, subnet: str, gateway: str) -> None:
    prepare()
    lowest, highest = properties()[metric]["minimum"], properties()[metric]["maximum"]
    for value in (lowest, highest):
        assert stored(subnet, gateway, metric, value) == value
    assert stored(subnet, gateway, metric, highest + 1) == highest, "lowered silently, so permanent drift"
