"""What an idle cluster asks of phpIPAM, and what keeps its rows from phpIPAM's own clean-up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from overlay_net.adapters.phpipam import row_table
from overlay_net.controller.ipam_router import IpamRouter
from overlay_net.controller.pool_reconciler import PoolReconciler
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.settings.sections import PhpIpamSettings
from tests.component.phpipam_support import Bench, bench, owner
from tests.fakes.cluster import Cluster
from tests.unit.factories import raw_phpipam_pool, raw_pool

SETTINGS = PhpIpamSettings(
    url="https://ipam.example.com", app_id="overlay", username=SecretStr("u"), password=SecretStr("p")
)
REMOVED_AFTER = timedelta(days=7)
"""The default of removed_addresses_timelimit in phpIPAM's config.dist.php."""


def removed_by_phpipam(lab: Bench, at: datetime) -> list[str]:
    """The addresses that remove_offline_addresses.php deletes if none of them answers a ping."""
    oldest = (at - REMOVED_AFTER).strftime(row_table.TIME_FORMAT)
    return [row["ip"] for row in lab.rows() if not row["excludePing"] and row["lastSeen"] < oldest]


async def test_row_survives_the_clean_up_of_phpipam_from_its_creation_on() -> None:
    async with bench() as lab:
        backend = lab.backend(touch=SETTINGS.touch_interval)
        await backend.reserve(owner(), lab.pool())
        now = datetime.now(UTC)
        assert removed_by_phpipam(lab, now) == []
        # An audit leaves the row alone until touch_interval is over; until then, and a while longer, it is safe.
        calls = lab.call_count()
        await backend.inventory((lab.pool(),))
        assert lab.call_count() == calls + 1
        assert removed_by_phpipam(lab, now + 2 * SETTINGS.touch_interval) == []


async def test_rows_of_earlier_builds_are_touched_oldest_first_and_a_limited_number_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_table, "TOUCHED_ROWS", 3)
    async with bench() as lab:
        earlier = lab.backend(touch=timedelta())
        for number in range(5):
            await earlier.reserve(owner(f"worker-{number}"), lab.pool())
        for row, seen in zip(
            lab.rows(), ("2020-01-05", "2020-01-01", "2020-01-04", "2020-01-02", "2020-01-03"), strict=True
        ):
            lab.server.edit(row, lastSeen=f"{seen} 00:00:00")
        backend, left = lab.backend(touch=SETTINGS.touch_interval), []
        for _ in range(3):
            await backend.inventory((lab.pool(),))
            left.append(sorted(row["lastSeen"] for row in lab.rows() if row["lastSeen"] < "2021"))
        assert left == [["2020-01-04 00:00:00", "2020-01-05 00:00:00"], [], []]


@pytest.mark.parametrize(
    ("change", "minutes"),
    [
        pytest.param({}, 5, id="ready"),
        pytest.param({"isFull": 1}, 1, id="marked as full"),
        pytest.param({"isFolder": 1}, 1, id="unusable"),
    ],
)
async def test_pool_is_read_again_soon_only_while_it_is_not_ready(change: dict[str, Any], minutes: int) -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        raw = raw_phpipam_pool(raw_pool("outside"))
        raw["spec"]["phpIPAM"] = {"subnetID": lab.subnet}
        cluster = await Cluster.start(raw)
        controller = await cluster.running()
        lab.server.subnets[lab.subnet] |= change
        api: Any = cluster.kube
        subject = PoolReconciler(
            api,
            IpamRouter([lab.backend()]),
            controller.caches,
            SETTINGS.refresh_interval,
            ControllerMetrics(),
            controller.events,
        )
        calls = lab.call_count()
        again = await subject.reconcile("outside")
        assert again is not None
        assert again.after == timedelta(minutes=minutes).total_seconds()
        assert lab.call_count() <= calls + 3
