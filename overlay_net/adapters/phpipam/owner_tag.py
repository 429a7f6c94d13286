"""Our mark on a row: which cluster, node and Node object it belongs to, as one line of text in a field for people.

A row without this line is somebody else's. The line may stand among other text: people write into the same field.
"""

import re

from overlay_net.model.ipam import Owner

_MARK = re.compile(r"overlay-net cluster=(\S+) node=(\S+) uid=(\S*)")


def encode_owner(owner: Owner) -> str:
    return f"overlay-net cluster={owner.cluster} node={owner.node} uid={owner.uid}"


def sign_of(cluster: str) -> str:
    """The part of a mark that every row of a cluster has: what a server-side filter looks for."""
    return f"overlay-net cluster={cluster} "


def find_owner(text: str) -> Owner | None:
    found = _MARK.search(text)
    return Owner(*found.groups()) if found else None


def marked(text: str, owner: Owner) -> str:
    """``text`` with the mark of ``owner`` in place of an earlier one, or after whatever people wrote."""
    mark = encode_owner(owner)
    if _MARK.search(text):
        return _MARK.sub(lambda _: mark, text, count=1)
    return f"{text.rstrip()}\n{mark}" if text.strip() else mark
