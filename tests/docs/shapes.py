"""Whether a command printed what a page shows, except for what is different at each run: times, hosts, random names."""

import difflib
import re

VOLATILE = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b", "MAC"),
    (r"\b(\d+\.\d+\.\d+)\.\d{2,3}\b", r"\1.HOST"),
    (r"\b(\d+(\.\d+)?(ms|us|s|m|h|d))+\b|\b\d+(\.\d+)? (ms|seconds)\b", "DURATION"),
    (r"\b(r[so]-)[0-9a-f]{12}\b", r"\1HASH"),
    (r"\b(overlay-net-(?:controller|agent))-[a-z0-9-]+", r"\1-POD"),
    (r"\bv\d+\.\d+\.\d+\b", "VERSION"),
)
"""What counts as equal, and what stands for it.

Of an address, the host, unless it is one of the first nine: pages give these to gateways, and nodes get others in any
order.
"""

ELLIPSIS = "..."
"""A line of a page that stands for any number of lines."""


def shape(line: str) -> str:
    for pattern, replacement in VOLATILE:
        line = re.sub(pattern, replacement, line)
    return " ".join(line.split())


def difference(shown: str, printed: str) -> str:
    """How the two differ, for people; an empty text if they have the same shape."""
    expected, found = (list(filter(None, map(shape, text.splitlines()))) for text in (shown, printed))
    pattern = "".join(".*" if line == ELLIPSIS else re.escape(f"{line}\n") for line in expected)
    if re.fullmatch(pattern, "".join(f"{line}\n" for line in found), re.DOTALL):
        return ""
    return "\n".join(difflib.unified_diff(expected, found, "shown in the page", "printed", lineterm=""))
