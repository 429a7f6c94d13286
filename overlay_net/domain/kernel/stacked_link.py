"""Which link a macvlan or an ipvlan lies on, which is not always its parent interface."""

from collections.abc import Mapping
from typing import Final

from overlay_net.model.kernel import Link

_SAME_KIND: Final[Mapping[str, frozenset[str]]] = {
    "macvlan": frozenset({"macvlan", "macvtap"}),
    "macvtap": frozenset({"macvlan", "macvtap"}),
    "ipvlan": frozenset({"ipvlan", "ipvtap"}),
}


def lies_on(link: Link, parent: Link) -> bool:
    """Return whether ``link`` is one that the kernel creates on ``parent``.

    On a parent of its own kind, as in a container with a macvlan interface, the kernel attaches the new link to the
    link below that parent, possibly in another network namespace (macvlan_common_newlink, ipvlan_link_new).
    """
    if parent.kind in _SAME_KIND.get(link.kind or "", ()):
        return (link.parent, link.outside) == (parent.parent, parent.outside)
    return link.parent == parent.index
