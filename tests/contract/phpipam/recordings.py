"""The recordings of a phpIPAM 1.8.2 server, and the reasons why some are not replayed.

recordings.jsonl contains one per line, in the order of recording: each depends on the state that earlier ones left.
Tokens, codes and passwords are placeholders.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("recordings.jsonl")
# All recorded numbers.
ALL = (
    "1-22 101-166 171-178 201-269 301-379 400-494 501-549 601-636 641-646 651-656 681-687 691-701 711-714 721-722"
    " 741-761 771-783 786-788 800-808"
)
LEFT_OUT = {
    "138": "rows of the user table with password hashes: an address client does not need them",
    "208": "a nested view whose recording is reduced to folders",
    "261": "first_subnet: an address client does not need it",
    "262 490 643": "the changelog",
    "428 429": "the search controller: loose matches, partly raw values",
    "538": "XML answers",
    "651-653 655 656": "encrypted requests of crypt apps",
    "800-807": "measurements of rates, sizes and races, not single responses",
    "808": "the sequence of failed logins: has its own test",
}
# The order of the elements is up to the database.
UNORDERED = frozenset({201, 548, 614})


@dataclass(frozen=True)
class Recording:
    number: int
    name: str
    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def app(self) -> str:
        parts = str(self.request["path"]).split("/")
        return parts[2] if len(parts) > 2 else ""

    def __str__(self) -> str:
        return f"{self.number:03d}-{self.name}"


def recordings() -> list[Recording]:
    with FILE.open(encoding="utf-8") as lines:
        return [Recording(**json.loads(line)) for line in lines]


def numbers(text: str) -> set[int]:
    """ "1-3 7" is 1, 2, 3 and 7."""
    found: set[int] = set()
    for part in text.split():
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
