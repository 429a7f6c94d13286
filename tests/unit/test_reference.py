"""The generated pages of the documentation."""

from pathlib import Path

import pytest

from lab.reference.pages import PAGES


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_generated_page_is_up_to_date(file: Path) -> None:
    assert file.read_text() == PAGES[file](), "run python -m lab.reference"
