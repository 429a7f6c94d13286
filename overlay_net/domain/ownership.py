"""What in the kernel is ours: that which carries our marks, and nothing else. Everything else is never touched."""

from overlay_net.model.kernel import Address, Link, Marks, Observed, Route
from overlay_net.model.rule import Rule


def owns_link(link: Link, marks: Marks) -> bool:
    return link.alias == marks.alias


def owns_route(route: Route, marks: Marks) -> bool:
    return route.info.protocol == marks.protocol


def owns_rule(rule: Rule, marks: Marks) -> bool:
    return rule.protocol == marks.protocol


def owns_address(address: Address, observed: Observed, marks: Marks) -> bool:
    """An address on our link with our protocol number.

    Kernels before 5.18 do not keep the number: there every global address on our link counts as ours.
    """
    link = next((link for link in observed.links if link.index == address.link), None)
    if link is None or not owns_link(link, marks) or address.link_local:
        return False
    return address.protocol == marks.protocol or not observed.marks_addresses
