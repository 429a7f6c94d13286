"""The owner tag: one line in a text field of a phpIPAM row that names the cluster, the node and the uid of its Node.

A row without this line was not created by overlay_net. Users edit the same field, so other text may surround the line.
"""

import re

from overlay_net.model.ipam import Owner

_OWNER_TAG = re.compile(r"overlay-net cluster=(\S+) node=(\S+) uid=(\S*)")


def encode_owner(owner: Owner) -> str:
    return f"{cluster_filter(owner.cluster)} node={owner.node} uid={owner.uid}"


def cluster_filter(cluster: str) -> str:
    """Return the text that the owner tags of a cluster have in common, for a server-side filter.

    Clusters whose id starts with ``cluster`` match as well, so the caller must check the owner of each row."""
    return f"overlay-net cluster={cluster}"


def find_owner(text: str) -> Owner | None:
    found = _OWNER_TAG.search(text)
    return Owner(*found.groups()) if found else None


def is_cut_owner_tag(text: str, owner: Owner) -> bool:
    """Return whether the text is what the column has kept of the owner tag of a row, without a complete node."""
    start = f"{cluster_filter(owner.cluster)} node="
    return find_owner(text) is None and text.startswith(start) and encode_owner(owner).startswith(text)


def with_owner_tag(text: str, owner: Owner) -> str:
    """Return ``text`` with the owner tag, which replaces an earlier one or is appended on its own line."""
    tag = encode_owner(owner)
    if _OWNER_TAG.search(text):
        return _OWNER_TAG.sub(lambda _: tag, text, count=1)
    return f"{text.rstrip()}\n{tag}" if text.strip() else tag
