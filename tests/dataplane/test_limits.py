"""The bounds that the schema of a StaticRoute has for MTU and MSS are those of the kernel."""

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


def kept(subnet: str, gateway: str, limit: str, value: int) -> int:
    """What the kernel has of a limit that it was given."""
    family = "-6" if ":" in subnet else "-4"
    ip(family, "route", "replace", subnet, "via", gateway, limit, str(value))
    (route,) = json.loads(ip("-j", family, "route", "show", subnet))
    return int(route["metrics"][0][limit])


@pytest.mark.parametrize(("subnet", "gateway"), [("11.0.0.0/24", "10.176.162.129"), ("fd11::/64", "fd00:7::1")])
@pytest.mark.parametrize("limit", ["mtu", "advmss"])
def test_the_schema_allows_what_the_kernel_keeps_and_no_more(eth0: None, limit: str, subnet: str, gateway: str) -> None:
    prepare()
    lowest, highest = properties()[limit]["minimum"], properties()[limit]["maximum"]
    for value in (lowest, highest):
        assert kept(subnet, gateway, limit, value) == value
    assert kept(subnet, gateway, limit, highest + 1) == highest, "it is not refused but cut: drift for ever"
