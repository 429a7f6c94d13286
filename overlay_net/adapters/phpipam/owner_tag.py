"""The owner tag: one line in a text field of a phpIPAM row that names the cluster, node and Node object it belongs to.

A row without this line was not made by overlay_net. People edit the same field, so other text may surround the line.
"""

import re

from overlay_net.model.ipam import Owner

_OWNER_TAG = re.compile(r"overlay-net cluster=(\S+) node=(\S+) uid=(\S*)")


def encode_owner(owner: Owner) -> str:
    return f"{cluster_filter(owner.cluster)} node={owner.node} uid={owner.uid}"


def cluster_filter(cluster: str) -> str:
    """The text that the tags of all rows of a cluster contain, for a filter on the server.

    Clusters whose id starts with ``cluster`` match as well: check the owner of each row."""
    return f"overlay-net cluster={cluster}"


def find_owner(text: str) -> Owner | None:
    found = _OWNER_TAG.search(text)
    return Owner(*found.groups()) if found else None


def with_owner_tag(text: str, owner: Owner) -> str:
    """``text`` with the tag of ``owner`` replacing an earlier one, or appended on a line of its own."""
    tag = encode_owner(owner)
    if _OWNER_TAG.search(text):
        return _OWNER_TAG.sub(lambda _: tag, text, count=1)
    return f"{text.rstrip()}\n{tag}" if text.strip() else tag
