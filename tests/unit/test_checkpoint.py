"""The checkpoint: it is restored unchanged, and only where it can be trusted."""

import asyncio
import json
import logging
import os
import stat
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.adapters.checkpoint_file import CONFIRM_INTERVAL, CheckpointFile, NoCheckpointFile, read_boot_id
from overlay_net.agent.checkpoint import ConfirmingSource, NodeCheckpoint
from overlay_net.domain.kernel.checkpoint import (
    FORMAT,
    Checkpoint,
    Moment,
    Unusable,
    check_age,
    checkpoint_digest,
    decode_checkpoint,
    encode_checkpoint,
    encode_confirmation,
)
from overlay_net.domain.kernel.desired import desired_state
from overlay_net.model.api import Listing, WatchEvent
from overlay_net.model.desired_route import DesiredRoute, Gateway, HealthCheck, OnAllDown, RouteSpec
from overlay_net.model.errors import Unavailable
from overlay_net.model.kernel import DesiredLink
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import RouteKind
from overlay_net.model.route_probe import RouteProbe
from overlay_net.model.route_spec import encode_route
from tests.unit.factories import overlay

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
THEN = Moment(NOON, "boot-1", 5000.0)
NINE_MINUTES = timedelta(minutes=9)
LINK = DesiredLink("tmp0", "eth0")


def usual() -> NodeOverlay:
    routes = [{"subnet": "192.168.0.0/24", "staticRoute": "r", "gateways": [{"address": "192.168.100.1"}]}]
    return overlay(spec={"routes": routes}, status={"ipAddr": "192.168.100.4/24", "gateway": "192.168.100.1"})


def sealed(version: object, body: object) -> bytes:
    text = json.dumps(body).encode()
    header = {"format": FORMAT, "version": version, "sha256": sha256(text).hexdigest()}
    return json.dumps(header).encode() + b"\n" + text


STATE = encode_checkpoint(usual())
STAMP = encode_confirmation(checkpoint_digest(STATE), THEN)


def test_saved_checkpoint_is_restored_unchanged() -> None:
    found = decode_checkpoint(STATE, STAMP, "n1")
    assert isinstance(found, Checkpoint)
    assert found.confirmed == THEN
    assert desired_state(found.overlay, LINK) == desired_state(usual(), LINK)


@pytest.mark.parametrize(
    ("state", "stamp", "node", "reason"),
    [
        (None, None, "n1", "Absent"),
        (None, STAMP, "n1", "Absent"),
        (b"", STAMP, "n1", "Broken"),
        (b"\x00\xff garbage", STAMP, "n1", "Broken"),
        (b"[" * 100_000, STAMP, "n1", "Broken"),
        (STATE[:-20], STAMP, "n1", "Broken"),
        (STATE.replace(b"192.168.100.4", b"192.168.100.5"), STAMP, "n1", "Broken"),
        (b'{"kind": "NodeOverlayIp"}\n{}', STAMP, "n1", "Broken"),
        (sealed(2, {"kind": "NodeOverlayIp"}), STAMP, "n1", "OtherVersion"),
        (sealed("1", {"kind": "NodeOverlayIp"}), STAMP, "n1", "OtherVersion"),
        (sealed(1, ["NodeOverlayIp"]), STAMP, "n1", "Broken"),
        (sealed(1, {"kind": "Node", "metadata": {"name": "n1"}}), STAMP, "n1", "Broken"),
        (STATE, STAMP, "n2", "Foreign"),
        (STATE, None, "n1", "Unconfirmed"),
        (STATE, b"nonsense", "n1", "Broken"),
        (STATE, sealed(2, {}), "n1", "OtherVersion"),
        (STATE, encode_confirmation(checkpoint_digest(b"another state"), THEN), "n1", "Unconfirmed"),
        (STATE, sealed(1, {"state": sha256(STATE).hexdigest(), "confirmed": "soon"}), "n1", "Broken"),
        (STATE, sealed(1, {"state": sha256(STATE).hexdigest(), "confirmed": NOON.isoformat()}), "n1", "Broken"),
    ],
)
def test_damaged_foreign_or_unconfirmed_checkpoint_is_unusable(
    state: bytes | None, stamp: bytes | None, node: str, reason: str
) -> None:
    found = decode_checkpoint(state, stamp, node)
    assert isinstance(found, Unusable)
    assert found.reason == reason
    assert "\n" not in found.message


@pytest.mark.parametrize(
    ("later", "boot", "uptime", "reason"),
    [
        pytest.param(60, "boot-2", 20, None, id="a reboot"),
        pytest.param(539, "boot-2", 20, None, id="a slow reboot"),
        pytest.param(540, "boot-2", 20, "Stale", id="the limit"),
        pytest.param(3600, "boot-2", 20, "Stale", id="an hour later"),
        pytest.param(30, "boot-1", 5030, None, id="the agent alone was restarted"),
        pytest.param(-1, "boot-2", 20, "ClockJumped", id="a clock without battery"),
        pytest.param(-1, "boot-1", 5001, "ClockJumped", id="the clock was set back"),
        pytest.param(60, "boot-2", 700, "Stale", id="the clock was set back after a boot too long ago"),
        pytest.param(60, "boot-1", 5700, "Stale", id="the clock was set back within one boot"),
        pytest.param(
            86400, "boot-1", 5001, "Stale", id="the clock was set forward: indistinguishable from a day of suspend"
        ),
    ],
)
def test_checkpoint_is_trusted_for_a_limited_time(later: float, boot: str, uptime: float, reason: str | None) -> None:
    unusable = check_age(THEN, Moment(NOON + timedelta(seconds=later), boot, uptime), NINE_MINUTES)
    assert (unusable.reason if unusable else None) == reason


gateways = st.builds(
    Gateway,
    st.sampled_from([ip_address(each) for each in ("192.168.100.1", "10.0.0.1", "2001:db8::1")]),
    weight=st.integers(1, 256),
    priority=st.integers(0, 3),
)
some_specs = st.builds(
    RouteSpec,
    st.lists(gateways, max_size=3).map(tuple),
    metric=st.integers(0, 9),
    table=st.sampled_from([254, 100]),
    kind=st.sampled_from(get_args(RouteKind)),
    mtu=st.sampled_from([0, 1400]),
    advmss=st.sampled_from([0, 1360]),
    on_link=st.booleans(),
    check=st.builds(HealthCheck, st.sampled_from(["arp", "icmp", "none"]), interval=st.sampled_from([1.0, 0.25])),
    on_all_down=st.sampled_from(get_args(OnAllDown)),
)
some_routes = st.builds(
    DesiredRoute.to,
    st.sampled_from([ip_network(each) for each in ("10.1.0.0/16", "192.168.0.0/24", "2001:db8:1::/48")]),
    some_specs,
    static_route=st.text("abc", max_size=3),
)


@settings(deadline=None)
@given(st.lists(some_routes, max_size=4), st.sampled_from([None, "192.168.100.4/24", "2001:db8::4/64"]), st.booleans())
def test_desired_state_survives_encoding_and_decoding(
    routes: list[DesiredRoute], address: str | None, reported_only: bool
) -> None:
    status = {} if address is None else {"configuredIpAddr" if reported_only else "ipAddr": address}
    before = overlay(spec={"routes": [encode_route(route) for route in routes]}, status=status)
    state = encode_checkpoint(before)
    found = decode_checkpoint(state, encode_confirmation(checkpoint_digest(state), THEN), "n1")
    assert isinstance(found, Checkpoint)
    assert desired_state(found.overlay, LINK) == desired_state(before, LINK)
    assert encode_checkpoint(found.overlay) == state


@settings(deadline=None)
@given(st.integers(0, len(STATE) - 1), st.integers(1, 255), st.integers(0, len(STATE)))
def test_any_damage_is_detected(position: int, change: int, end: int) -> None:
    damaged = bytearray(STATE)
    damaged[position] ^= change
    for content in (bytes(damaged), STATE[:end]):
        found = decode_checkpoint(content, STAMP, "n1")
        if content.rstrip(b"\n") != STATE.rstrip(b"\n"):
            assert isinstance(found, Unusable)


def test_reports_and_object_versions_do_not_change_the_checkpoint() -> None:
    status = {"ipAddr": "192.168.100.4/24", "gateway": "192.168.100.1", "configuredIpAddr": "192.168.100.4/24"}
    later = replace(overlay(status=status, generation=7), resource_version="99", routes=usual().routes)
    assert encode_checkpoint(later) == STATE


# --- The files --------------------------------------------------------------------------------------------------------


def files_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def at(seconds: float) -> Moment:
    return Moment(NOON + timedelta(seconds=seconds), "boot-1", 5000 + seconds)


async def test_files_are_private_and_complete(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "a" / "b", "n1")
    before = os.umask(0)
    try:
        await file.save(usual(), THEN)
    finally:
        os.umask(before)
    assert files_in(file.state.parent) == ["n1.confirmed", "n1.state"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in file.state.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(file.state.parent.stat().st_mode) == 0o700
    found = CheckpointFile(tmp_path / "a" / "b", "n1").load()
    assert isinstance(found, Checkpoint)
    assert found.confirmed == THEN


async def test_only_changes_are_written_and_confirmations_once_a_minute(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path, "n1")
    first = usual()
    await file.save(first, at(0))
    written = (file.state.stat().st_ino, file.stamp.stat().st_ino)
    await file.save(first, at(100))
    same = usual()
    await file.save(same, at(100))
    await file.confirm(same, at(CONFIRM_INTERVAL - 1))
    assert (file.state.stat().st_ino, file.stamp.stat().st_ino) == written
    await file.confirm(same, at(CONFIRM_INTERVAL))
    assert file.state.stat().st_ino == written[0]
    found = file.load()
    assert isinstance(found, Checkpoint)
    assert found.confirmed == at(CONFIRM_INTERVAL)
    # A new process finds the same state on disk.
    await CheckpointFile(tmp_path, "n1").save(usual(), at(200))
    assert file.state.stat().st_ino == written[0]


async def test_confirmation_of_another_object_is_not_written(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path, "n1")
    await file.save(usual(), at(0))
    await file.confirm(overlay(deleting=True), at(500))
    await file.confirm(None, at(500))
    found = file.load()
    assert isinstance(found, Checkpoint)
    assert found.confirmed == at(0)
    assert await file.delete() == ""
    await file.confirm(usual(), at(500))
    assert files_in(tmp_path) == []
    assert await file.delete() == "", "deleting twice is no error"


async def test_crash_between_the_two_files_leaves_an_unconfirmed_state(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path, "n1")
    await file.save(usual(), at(0))
    file.state.write_bytes(encode_checkpoint(overlay(status={"ipAddr": "192.168.100.9/24"})))
    found = file.load()
    assert isinstance(found, Unusable)
    assert found.reason == "Unconfirmed"


async def test_unwritable_directory_is_logged_once_and_raises_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "blocked").write_text("a file where the directory should be")
    file = CheckpointFile(tmp_path / "blocked", "n1")
    for _ in range(3):
        await file.save(usual(), at(0))
    assert await file.delete() == ""
    assert len([each for each in caplog.records if "blocked" in vars(each).get("directory", "")]) == 1
    assert isinstance(file.load(), Unusable)


async def test_old_state_is_deleted_if_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    """The old one may name an address that the node releases now."""
    file = CheckpointFile(tmp_path, "n1")
    await file.save(usual(), at(0))
    # The temporary file cannot be created: a directory has its name.
    temporary = tmp_path / ".n1.confirmed.new"
    temporary.mkdir()
    await file.save(overlay(status={"ipAddr": "192.168.100.9/24"}), at(10))
    assert isinstance(file.load(), Unusable)


# --- When it is used --------------------------------------------------------------------------------------------------


class Stored(NoCheckpointFile):
    """A checkpoint on disk; what is saved to it is recorded."""

    def __init__(self) -> None:
        self.saved: list[tuple[NodeOverlay, Moment]] = []

    def load(self) -> Checkpoint | Unusable:
        return Checkpoint(usual(), THEN)

    async def save(self, overlay: NodeOverlay, confirmed: Moment, route_probes: tuple[RouteProbe, ...] = ()) -> None:
        self.saved.append((overlay, confirmed))


async def test_checkpoint_is_used_only_while_the_api_server_is_unreachable(caplog: pytest.LogCaptureFixture) -> None:
    now, wakes, stored = [at(10)], [], Stored()
    checkpoint = NodeCheckpoint(stored, NINE_MINUTES, lambda: now[0], lambda: wakes.append(1))
    assert checkpoint.usable() is None
    checkpoint.api_failed()
    assert len(wakes) == 1
    caplog.set_level(logging.INFO)
    for _ in range(3):
        assert checkpoint.usable() == usual()
    await checkpoint.update(usual(), ())
    assert stored.saved == [(usual(), THEN)], "with the confirmation that it had"
    now[0] = at(541)
    for _ in range(3):
        assert checkpoint.usable() is None
    assert [each.levelname for each in caplog.records] == ["INFO", "WARNING"], "each is logged once"
    assert vars(caplog.records[-1])["reason"] == "Stale"


async def test_checkpoint_is_not_used_any_more_once_the_api_server_has_answered() -> None:
    wakes: list[int] = []
    checkpoint = NodeCheckpoint(Stored(), NINE_MINUTES, lambda: at(10), lambda: wakes.append(1))
    checkpoint.api_failed()
    checkpoint.api_synced()
    checkpoint.api_failed()
    assert checkpoint.usable() is None
    assert len(wakes) == 1


async def test_object_without_confirmation_is_not_saved() -> None:
    stored = Stored()
    checkpoint = NodeCheckpoint(stored, NINE_MINUTES, lambda: at(10))
    await checkpoint.update(usual(), ())
    assert stored.saved == []
    checkpoint.api_confirmed(at(9))
    await checkpoint.update(usual(), ())
    assert stored.saved == [(usual(), at(9))]


def test_without_state_dir_nothing_is_found() -> None:
    checkpoint = NodeCheckpoint(NoCheckpointFile(), NINE_MINUTES, lambda: at(10))
    checkpoint.api_failed()
    assert checkpoint.usable() is None
    assert checkpoint.last_applied() is None


async def test_confirmation_is_a_list_or_an_event_and_no_error() -> None:
    class Source:
        def __init__(self) -> None:
            self.fails = True

        async def pages(self) -> AsyncGenerator[Listing, None]:
            if self.fails:
                raise Unavailable("down")
            for _ in range(2):
                assert checkpoint.confirmed is None, "the first page is not the whole list"
                yield Listing((), "1")

        async def watch(self, resource_version: str):  # type: ignore[no-untyped-def]
            for version in ("2", "3"):
                yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": version}})
            raise Unavailable("cut")

    inner, clock, failures = Source(), iter(range(100)), []
    checkpoint = NodeCheckpoint(NoCheckpointFile(), NINE_MINUTES, lambda: at(next(clock)), lambda: failures.append(1))
    source = ConfirmingSource(inner, checkpoint)
    with pytest.raises(Unavailable):
        assert [page async for page in source.pages()] == []
    assert (checkpoint.confirmed, len(failures)) == (None, 1)
    inner.fails = False
    assert len([page async for page in source.pages()]) == 2
    assert checkpoint.confirmed == at(1), "when it was requested, not when the answer came"
    confirmed = []
    with pytest.raises(Unavailable):
        async for _ in source.watch("1"):
            confirmed.append(checkpoint.confirmed)
            await asyncio.sleep(0)
    assert confirmed == [at(1), at(2)], "an event counts once it was processed"
    assert checkpoint.confirmed == at(3)


def test_a_boot_id_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "boot_id").write_text("6f0c3d5e-1111-2222-3333-444455556666\n")
    (tmp_path / "other").write_bytes(b"\xff\xfe")
    assert read_boot_id(tmp_path / "boot_id") == "6f0c3d5e-1111-2222-3333-444455556666"
    assert [read_boot_id(tmp_path / name) for name in ("missing", ".", "other")] == ["", "", ""]
