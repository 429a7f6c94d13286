"""The archive of sysdump is complete, or there is none."""

import resource
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlay_net.cli.archive import Archive
from overlay_net.domain.diagnosis.redaction import Redactor
from overlay_net.model.errors import ConfigurationError, OverlayNetError


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file can grow beyond 16 KiB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_only_its_owner_may_read_an_archive(tmp_path: Path) -> None:
    with Archive(tmp_path / "dump.tar.gz", Redactor()) as archive:
        archive.add_text("a.txt", "text")
    assert [(each.name, each.stat().st_mode & 0o777) for each in tmp_path.iterdir()] == [("dump.tar.gz", 0o600)]


def test_an_interrupted_archive_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Archive(tmp_path / "dump.tar.gz", Redactor()) as archive:
        archive.add_text("a.txt", "text")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_files")
def test_an_archive_that_cannot_be_written_is_one_error_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "dump.tar.gz"
    with pytest.raises(OverlayNetError) as refused, Archive(path, Redactor()) as archive:
        archive.add_text("a.txt", secrets.token_hex(65536))
    assert str(refused.value) == f"{path}: File too large"
    assert list(tmp_path.iterdir()) == []


def test_an_archive_in_a_directory_that_does_not_exist_is_an_error_of_usage(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "dump.tar.gz"
    with pytest.raises(ConfigurationError, match="No such file or directory"), Archive(path, Redactor()):
        pass
