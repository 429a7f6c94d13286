"""The checkpoint: it is restored unchanged, and only where it can be trusted."""

import asyncio
import errno
import json
import logging
import os
import stat
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.adapters.checkpoint_file import CheckpointFile, read_boot_id
from overlay_net.agent import checkpoint_writer
from overlay_net.agent.checkpoint import ConfirmingSource, NodeCheckpoint
from overlay_net.agent.checkpoint_writer import CONFIRM_INTERVAL, CheckpointWriter, NoCheckpointWriter
from overlay_net.domain.kernel.checkpoint import (
    FORMAT,
    Checkpoint,
    CheckpointContent,
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
from tests.fakes.checkpoint_files import READ_ONLY, MemoryFiles
from tests.fakes.until import until
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
    found = decode_checkpoint(CheckpointContent(STATE, STAMP), "n1")
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
    found = decode_checkpoint(CheckpointContent(state, stamp), node)
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
    found = decode_checkpoint(CheckpointContent(state, encode_confirmation(checkpoint_digest(state), THEN)), "n1")
    assert isinstance(found, Checkpoint)
    assert desired_state(found.overlay, LINK) == desired_state(before, LINK)
    assert encode_checkpoint(found.overlay) == state


@settings(deadline=None)
@given(st.integers(0, len(STATE) - 1), st.integers(1, 255), st.integers(0, len(STATE)))
def test_any_damage_is_detected(position: int, change: int, end: int) -> None:
    damaged = bytearray(STATE)
    damaged[position] ^= change
    for content in (bytes(damaged), STATE[:end]):
        found = decode_checkpoint(CheckpointContent(content, STAMP), "n1")
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


def load(file: CheckpointFile) -> Checkpoint | Unusable:
    return decode_checkpoint(file.read(), "n1")


class Writing:
    """A writer on real files; the file ``blocked`` stands where one of its directories should be."""

    def __init__(self, directory: Path) -> None:
        self.file = CheckpointFile(directory, "n1")
        self.changed = asyncio.Event()
        self.writer = CheckpointWriter(self.file, at(0), self.changed.set)
        self.task = asyncio.create_task(self.writer.run())

    async def store(self, overlay: NodeOverlay | None, confirmed: Moment) -> None:
        self.writer.store(overlay, (), confirmed)
        await self.until(lambda: self.writer.settled)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


async def test_files_are_private_and_complete(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "a" / "b", "n1")
    before = os.umask(0)
    try:
        file.write(STATE, THEN)
    finally:
        os.umask(before)
    assert files_in(file.state.parent) == ["n1.confirmed", "n1.state"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in file.state.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(file.state.parent.stat().st_mode) == 0o700
    found = load(CheckpointFile(tmp_path / "a" / "b", "n1"))
    assert isinstance(found, Checkpoint)
    assert found.confirmed == THEN


def count_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def overlay_with(address: str) -> NodeOverlay:
    return overlay(status={"ipAddr": address})


async def test_only_changes_are_written_and_confirmations_once_a_minute(tmp_path: Path) -> None:
    writing = Writing(tmp_path)
    file = writing.file
    await writing.store(usual(), at(0))
    written = (file.state.stat().st_ino, file.stamp.stat().st_ino)
    same = usual()
    await writing.store(same, at(100))
    writing.writer.confirm(same, at(CONFIRM_INTERVAL - 1))
    await writing.store(usual(), at(100))
    assert (file.state.stat().st_ino, file.stamp.stat().st_ino) == written
    latest = usual()
    await writing.store(latest, at(100))
    writing.writer.confirm(latest, at(CONFIRM_INTERVAL))
    async with asyncio.timeout(20):
        while file.stamp.stat().st_ino == written[1]:
            await asyncio.sleep(0.001)
    assert file.state.stat().st_ino == written[0]
    found = load(file)
    assert isinstance(found, Checkpoint)
    assert found.confirmed == at(CONFIRM_INTERVAL)
    # A new process finds the same state on disk, and confirms it.
    await Writing(tmp_path).store(usual(), at(200))
    assert file.state.stat().st_ino == written[0]
    found = load(file)
    assert isinstance(found, Checkpoint)
    assert found.confirmed == at(200)


async def test_checkpoint_that_was_restored_after_a_boot_is_confirmed_again(tmp_path: Path) -> None:
    """Otherwise it would expire: the uptime of the boot before may be that of months."""
    writing = Writing(tmp_path)
    await writing.store(usual(), Moment(NOON - timedelta(seconds=60), "boot-0", 9e6))
    latest = usual()
    await writing.store(latest, at(1))
    writing.writer.confirm(latest, at(1))
    async with asyncio.timeout(20):
        while isinstance(found := load(writing.file), Checkpoint) and found.confirmed != at(1):
            await asyncio.sleep(0.001)
    assert isinstance(found, Checkpoint)


async def test_confirmation_of_another_object_is_not_written(tmp_path: Path) -> None:
    writing = Writing(tmp_path)
    await writing.store(usual(), at(0))
    for other in (overlay(deleting=True), None):
        writing.writer.confirm(other, at(500))
    found = load(writing.file)
    await writing.store(None, at(500))
    assert isinstance(found, Checkpoint)
    assert found.confirmed == at(0)
    writing.writer.confirm(usual(), at(500))
    await writing.store(None, at(500))
    assert files_in(tmp_path) == []
    assert writing.file.delete() == [], "deleting twice is no error"


async def test_crash_between_the_two_files_leaves_an_unconfirmed_state(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path, "n1")
    file.write(STATE, at(0))
    file.state.write_bytes(encode_checkpoint(overlay_with("192.168.100.9/24")))
    found = load(file)
    assert isinstance(found, Unusable)
    assert found.reason == "Unconfirmed"


async def test_unwritable_directory_is_reported_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_writer, "RETRY_AFTER", 0.001)
    (tmp_path / "blocked").write_text("a file where the directory should be")
    writing = Writing(tmp_path / "blocked")
    for number in range(3):
        await writing.store(overlay_with(f"192.168.100.{number + 2}/24"), at(0))
    problem = writing.writer.problem
    assert problem is not None
    assert (problem.reason, problem.message) == ("WriteFailed", f"cannot write to {tmp_path}/blocked: File exists")
    assert writing.writer.outdated_since is None, "there is no other state on disk"
    assert len([each for each in caplog.records if "blocked" in vars(each).get("directory", "")]) == 1
    (tmp_path / "blocked").unlink()
    await writing.until(lambda: writing.writer.problem is None)
    assert isinstance(load(writing.file), Checkpoint), "it is tried again"


async def test_old_state_is_deleted_if_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    """The old one may name an address that the node releases now."""
    writing = Writing(tmp_path)
    await writing.store(usual(), at(0))
    # The temporary file cannot be created: a directory has its name.
    temporary = tmp_path / ".n1.confirmed.new"
    temporary.mkdir()
    await writing.store(overlay_with("192.168.100.9/24"), at(10))
    assert isinstance(load(writing.file), Unusable)


# --- A disk that fails or does not answer -----------------------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk counts as stalled at once, and what failed is tried again at once."""
    monkeypatch.setattr(checkpoint_writer, "STALLED_AFTER", 0.01)
    monkeypatch.setattr(checkpoint_writer, "RETRY_AFTER", 0.01)


class Stalling(Writing):
    """A writer on files in memory, with this checkpoint of an earlier run."""

    def __init__(self, found: NodeOverlay | None = None) -> None:
        self.disk = MemoryFiles()
        if found is not None:
            self.disk.put(found, THEN)
        self.changed = asyncio.Event()
        self.writer = CheckpointWriter(self.disk, at(0), self.changed.set)
        self.task = asyncio.create_task(self.writer.run())


async def test_a_full_disk_is_tried_at_the_same_pace_however_often_the_desired_state_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint_writer, "RETRY_AFTER", 0.05)
    stalling = Stalling()
    stalling.disk.error = errno.ENOSPC
    for number in range(20):
        await stalling.store(overlay_with(f"192.168.100.{number + 2}/24"), at(number))
    clock = asyncio.get_running_loop().time
    calls, began = stalling.disk.calls, clock()
    expected = calls.count("write") + 4
    await until(lambda: calls.count("write") >= expected)
    assert clock() - began > 2.9 * checkpoint_writer.RETRY_AFTER, "there are three pauses between four attempts"


@pytest.mark.usefixtures("soon")
async def test_stalled_disk_is_reported_and_the_latest_state_is_written_when_it_answers() -> None:
    stalling = Stalling()
    writer, disk = stalling.writer, stalling.disk
    await stalling.store(usual(), at(0))
    disk.hang()
    threads = count_threads()
    for number in range(20):
        await stalling.store(overlay_with(f"192.168.100.{number + 2}/24"), at(number))
    assert writer.problem is not None
    assert (writer.problem.reason, writer.problem.message) == (
        "DiskStalled",
        "the disk or file system of /state does not answer",
    )
    assert count_threads() <= threads + 1
    disk.answer()

    def has_latest() -> bool:
        found = disk.checkpoint
        return found is not None and str(found.overlay.assignment.address) == "192.168.100.21/24"

    await until(has_latest)
    await stalling.until(lambda: writer.problem is None and writer.outdated_since is None)
    assert disk.calls.count("write") <= 3, "only the latest of those that waited"


@pytest.mark.usefixtures("soon")
async def test_stalled_confirmation_delays_no_later_state() -> None:
    stalling = Stalling()
    latest = usual()
    await stalling.store(latest, at(0))
    # On a busy machine it may take longer than the writer waits.
    await until(lambda: stalling.disk.checkpoint is not None)
    stalling.disk.hang()

    def confirming() -> bool:
        """A confirmation is ignored until the writer knows that the state is stored."""
        stalling.writer.confirm(latest, at(CONFIRM_INTERVAL))
        return "confirm" in stalling.disk.calls

    await until(confirming)
    await stalling.until(lambda: stalling.writer.problem is not None)
    stalling.writer.store(overlay_with("192.168.100.9/24"), (), at(70))
    assert stalling.writer.settled
    assert stalling.writer.outdated_since == at(CONFIRM_INTERVAL)
    stalling.disk.answer()
    await stalling.until(lambda: stalling.writer.outdated_since is None)


@pytest.mark.usefixtures("soon")
async def test_checkpoint_that_could_not_be_read_in_time_is_used_when_it_is_read() -> None:
    disk = MemoryFiles()
    disk.put(usual(), THEN)
    disk.hang()
    changed = asyncio.Event()
    writer = CheckpointWriter(disk, at(0), changed.set)
    checkpoint = NodeCheckpoint(writer, "n1", NINE_MINUTES, lambda: at(10))
    checkpoint.api_failed()
    task = asyncio.create_task(writer.run())
    was_read = checkpoint.is_read
    assert not was_read
    async with asyncio.timeout(20):
        await changed.wait()
        assert checkpoint.is_read, "nothing waits for it any longer"
        assert (checkpoint.usable(), checkpoint.last_applied()) == (None, None)
        changed.clear()
        disk.answer()
        while checkpoint.usable() is None:
            await asyncio.sleep(0.001)
    found = checkpoint.usable()
    assert found is not None
    assert found.routes == usual().routes
    task.cancel()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("how", ["stalled", "read-only"])
@pytest.mark.parametrize("desired", [overlay(status={"ipAddr": "192.168.100.9/24"}), None], ids=["changed", "deleted"])
async def test_checkpoint_is_outdated_until_another_state_cannot_be_restored_from_it(
    how: str, desired: NodeOverlay | None
) -> None:
    stalling = Stalling(usual())
    now = [at(1)]
    checkpoint = NodeCheckpoint(stalling.writer, "n1", NINE_MINUTES, lambda: now[0])
    checkpoint.api_confirmed(at(1))
    await stalling.until(lambda: checkpoint.is_read)
    checkpoint.update(usual(), ())
    await stalling.until(lambda: stalling.writer.settled and not checkpoint.is_outdated)
    if how == "stalled":
        stalling.disk.hang()
    else:
        stalling.disk.error = READ_ONLY
    checkpoint.update(desired, ())
    await stalling.until(lambda: checkpoint.problem is not None)
    assert checkpoint.update(desired, ()), "it is waited for no longer"
    assert [checkpoint.is_outdated] == [True]
    now[0] = at(542)
    assert [checkpoint.is_outdated] == [False], "it has expired"
    now[0] = at(2)
    stalling.disk.error = 0
    stalling.disk.answer()
    await stalling.until(lambda: not checkpoint.is_outdated)
    assert checkpoint.problem is None


# --- When it is used --------------------------------------------------------------------------------------------------


class Stored(NoCheckpointWriter):
    """A checkpoint on disk; what is stored is recorded."""

    found = CheckpointContent(STATE, STAMP)  # type: ignore[assignment]

    def __init__(self) -> None:
        self.stored: list[tuple[NodeOverlay | None, Moment]] = []

    def store(
        self,
        overlay: NodeOverlay | None,
        route_probes: tuple[RouteProbe, ...],
        confirmed: Moment,
        *,
        awaited: bool = True,
    ) -> None:
        self.stored.append((overlay, confirmed))


async def test_checkpoint_is_used_only_while_the_api_server_is_unreachable(caplog: pytest.LogCaptureFixture) -> None:
    now, wakes, stored = [at(10)], [], Stored()
    checkpoint = NodeCheckpoint(stored, "n1", NINE_MINUTES, lambda: now[0], lambda: wakes.append(1))
    assert checkpoint.usable() is None
    checkpoint.api_failed()
    assert len(wakes) == 1
    caplog.set_level(logging.INFO)
    for _ in range(3):
        found = checkpoint.usable()
        assert found is not None
        assert found.routes == usual().routes
    checkpoint.update(found, ())
    assert stored.stored == [(found, THEN)], "with the confirmation that it had"
    now[0] = at(541)
    for _ in range(3):
        assert checkpoint.usable() is None
    assert [each.levelname for each in caplog.records] == ["INFO", "WARNING"], "each is logged once"
    assert vars(caplog.records[-1])["reason"] == "Stale"


async def test_checkpoint_is_not_used_any_more_once_the_api_server_has_answered() -> None:
    wakes: list[int] = []
    checkpoint = NodeCheckpoint(Stored(), "n1", NINE_MINUTES, lambda: at(10), lambda: wakes.append(1))
    checkpoint.api_failed()
    checkpoint.api_synced()
    checkpoint.api_failed()
    assert checkpoint.usable() is None
    assert len(wakes) == 1


async def test_object_without_confirmation_is_not_stored() -> None:
    stored = Stored()
    checkpoint = NodeCheckpoint(stored, "n1", NINE_MINUTES, lambda: at(10))
    checkpoint.update(usual(), ())
    assert stored.stored == []
    checkpoint.api_confirmed(at(9))
    checkpoint.update(usual(), ())
    assert stored.stored == [(usual(), at(9))]


def test_without_state_dir_nothing_is_found() -> None:
    checkpoint = NodeCheckpoint(NoCheckpointWriter(), "n1", NINE_MINUTES, lambda: at(10))
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
    checkpoint = NodeCheckpoint(
        NoCheckpointWriter(), "n1", NINE_MINUTES, lambda: at(next(clock)), lambda: failures.append(1)
    )
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
