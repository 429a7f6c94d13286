"""Which Nodes get an overlay address: those where an agent runs, or where one may have left an address."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.model.selectors import Selector
from tests.fakes.cluster import NAME, Cluster
from tests.unit.factories import raw_node, raw_pool

POOL = raw_pool(cidr="10.9.0.0/29", gateway="10.9.0.1")

WITHOUT_AGENT: dict[str, dict[str, Any]] = {
    "Windows": {"kubernetes.io/os": "windows"},
    "virtual kubelet": {"type": "virtual-kubelet", "kubernetes.io/os": "linux"},
    "Fargate": {"eks.amazonaws.com/compute-type": "fargate", "kubernetes.io/os": "linux"},
}


@pytest.mark.parametrize("labels", WITHOUT_AGENT.values(), ids=WITHOUT_AGENT)
async def test_node_where_no_agent_can_run_gets_no_object_and_no_address(labels: dict[str, Any]) -> None:
    cluster = await Cluster.start(POOL)
    await cluster.join(raw_node(NAME, **labels))
    await cluster.settle()
    assert (await cluster.overlay(), await cluster.records()) == (None, {})


@pytest.mark.parametrize("labels", [{}, {"kubernetes.io/os": "linux"}, {"type": "worker"}], ids=str)
async def test_any_other_node_gets_an_address(labels: dict[str, Any]) -> None:
    cluster = await Cluster.start(POOL)
    await cluster.join(raw_node(NAME, **labels))
    await cluster.settle()
    assert [str(record.address) for record in await cluster.own_records()] == ["10.9.0.2"]


@pytest.mark.parametrize("labels", WITHOUT_AGENT.values(), ids=WITHOUT_AGENT)
async def test_address_that_no_agent_has_ever_used_is_released(labels: dict[str, Any]) -> None:
    """As after an upgrade from a version that gave every Node an address."""
    cluster = await Cluster.start(POOL)
    await cluster.join(raw_node(NAME))
    await cluster.reconcile()
    assert await cluster.own_records()
    await cluster.join(raw_node(NAME, **labels))
    for _ in range(2):
        await cluster.reconcile()
        cluster.now += cluster.policy.release_after + cluster.policy.fence_after
    await cluster.reconcile()
    assert (await cluster.overlay(), await cluster.records()) == (None, {})


async def test_node_that_is_excluded_later_keeps_the_address_that_its_agent_uses() -> None:
    cluster = await Cluster.start(POOL)
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    await cluster.join(raw_node(NAME, type="virtual-kubelet"))
    for _ in range(3):
        await cluster.reconcile()
        cluster.now += timedelta(days=1)
    assert [record.address for record in await cluster.own_records()] == [ip_address("10.9.0.2")]
    assert (await cluster.present_overlay())["status"]["ipAddr"] == "10.9.0.2/29"


@pytest.mark.parametrize(
    ("text", "matching", "others"),
    [
        ("", [{}, {"a": "b"}], []),
        ("a=b", [{"a": "b"}], [{}, {"a": "c"}]),
        ("a==b, c=d", [{"a": "b", "c": "d"}], [{"a": "b"}]),
        ("a!=b", [{}, {"a": "c"}], [{"a": "b"}]),
        ("a in (b, c)", [{"a": "b"}, {"a": "c"}], [{}, {"a": "d"}]),
        ("x.io/a notin (b,c),d", [{"d": ""}, {"d": "", "x.io/a": "e"}], [{}, {"d": "", "x.io/a": "c"}]),
        ("a", [{"a": ""}], [{}]),
        ("!a", [{}], [{"a": ""}]),
        ("a=", [{"a": ""}], [{}, {"a": "b"}]),
    ],
)
def test_selector_text_has_the_meaning_that_it_has_in_kubectl(
    text: str, matching: list[dict[str, str]], others: list[dict[str, str]]
) -> None:
    selector = Selector.parse_text(text)
    assert [selector.matches(labels) for labels in (*matching, *others)] == [True] * len(matching) + [False] * len(
        others
    )


@pytest.mark.parametrize("text", ["a=b=c", "a in b", "a notin ()x", ",", "a,,b", "=b", "a in (b", "a b", "-a"])
def test_invalid_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a label selector"):
        Selector.parse_text(text)
