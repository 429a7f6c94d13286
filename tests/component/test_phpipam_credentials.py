"""The credentials of phpIPAM: a mounted Secret that changes, and no secret in any error or log."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from overlay_net.adapters.phpipam import Secret, credentials
from overlay_net.model.errors import CredentialsRefused
from tests.component.eventually import eventually
from tests.component.phpipam_faults import FAULTS, Fault
from tests.component.phpipam_support import (
    CODE,
    PASSWORD,
    USER,
    Bench,
    assert_nothing_secret,
    bench,
    capture_all_logs,
)

BASIC = "b3BlcmF0b3I6cGFzcy1Xb3J0LTdmM2E="
"""The login of USER with PASSWORD, as HTTP basic authentication sends it."""


@contextlib.asynccontextmanager
async def watching(lab: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(credentials, "POLL_SECONDS", 0.01)
    task = asyncio.create_task(lab.credentials.watch(lab.api.renew_credentials))
    # The watch reads the initial content before its first interval.
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()


def mount(directory: Path, generation: str, password: str) -> None:
    """Update a Secret volume as the kubelet does: a new directory, and an atomic swap of ``..data``."""
    content = directory / f"..{generation}"
    content.mkdir()
    (content / "username").write_text(f"{USER}\n")
    (content / "password").write_text(f"{password}\n")
    link = directory / "..data_tmp"
    link.symlink_to(content.name)
    link.rename(directory / "..data")
    for name in ("username", "password"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def rewrite(directory: Path, generation: str, password: str) -> None:
    assert generation
    (directory / "username").write_text(USER)
    (directory / "password").write_text(password)


@pytest.mark.parametrize("put", [mount, rewrite], ids=["swapped as by the kubelet", "rewritten in place"])
async def test_corrected_secret_is_used_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Any) -> None:
    put(tmp_path, "first", "wrong")
    async with bench(directory=tmp_path, secret=Secret()) as lab, watching(lab, monkeypatch):
        with pytest.raises(CredentialsRefused):
            await lab.client.read_subnet(lab.subnet)
        put(tmp_path, "second", PASSWORD)

        async def answers() -> bool:
            with contextlib.suppress(CredentialsRefused):
                return bool((await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet)
            return False

        await eventually(answers, "the new Secret is used", seconds=5)
        assert lab.breaker.error is None
        assert len(lab.server.failed_logins) == 1
        assert lab.recoveries


async def test_missing_secret_file_is_reported_by_path_and_used_once_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(directory=tmp_path, secret=Secret()) as lab, watching(lab, monkeypatch):
        with pytest.raises(CredentialsRefused, match=r"username: No such file"):
            await lab.client.read_subnet(lab.subnet)
        rewrite(tmp_path, "first", PASSWORD)

        async def reopened() -> bool:
            return bool(lab.recoveries)

        await eventually(reopened, "the new files are noticed", seconds=5)
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet


@pytest.mark.parametrize("logged_in", [True, False])
@pytest.mark.parametrize("break_it", FAULTS)
async def test_errors_and_logs_of_a_failing_server_contain_no_password_or_token(
    caplog: pytest.LogCaptureFixture, break_it: Fault, logged_in: bool
) -> None:
    capture_all_logs(caplog)
    async with bench(timeout=0.5) as lab:
        if logged_in:
            await lab.client.read_subnet(lab.subnet)
        break_it(lab.server)
        errors = await reserve_and_fail(lab, 5)
        token = lab.server.users[USER].token
    assert len(errors) == 5
    assert caplog.records
    assert token or not logged_in
    assert_nothing_secret(caplog, errors, {PASSWORD, BASIC} | ({token} if token else set()))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"permission": 0}, id="disabled app"),
        pytest.param({"permission": 1}, id="read-only app"),
        pytest.param({"security": "ssl_token"}, id="app that requires https"),
        pytest.param({"app": "none"}, id="unknown app"),
        pytest.param({"url": "http://127.0.0.1:9"}, id="unreachable server"),
        pytest.param({"secret": Secret(USER, PASSWORD + "x")}, id="wrong password"),
    ],
)
async def test_errors_and_logs_of_a_wrong_setup_contain_no_password_or_token(
    caplog: pytest.LogCaptureFixture, settings: dict[str, Any]
) -> None:
    capture_all_logs(caplog)
    async with bench(**settings) as lab:
        errors = await reserve_and_fail(lab, 3)
        token = lab.server.users[USER].token
    assert len(errors) == 3
    assert_nothing_secret(caplog, errors, {PASSWORD, BASIC} | ({token} if token else set()))


async def reserve_and_fail(lab: Bench, number: int) -> list[BaseException]:
    calls = (lab.client.create_at_first_free(lab.subnet, {"hostname": "worker-1"}) for _ in range(number))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return [answer for answer in answers if isinstance(answer, BaseException)]


def test_secret_hides_its_content_in_repr() -> None:
    assert PASSWORD not in repr(Secret(USER, PASSWORD, CODE))
    assert CODE not in repr(Secret(USER, PASSWORD, CODE))
