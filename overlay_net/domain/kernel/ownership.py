"""Ownership: a kernel object is managed if it has our mark. Everything else is foreign and is never changed."""

from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark
from overlay_net.model.policy_rule import PolicyRule
from overlay_net.model.route import Route


def owns_link(link: Link, mark: OwnershipMark) -> bool:
    return link.alias == mark.alias or link.group == mark.group


def owns_route(route: Route, mark: OwnershipMark) -> bool:
    return route.info.protocol == mark.protocol


def owns_policy_rule(rule: PolicyRule, mark: OwnershipMark) -> bool:
    return rule.protocol == mark.protocol


def find_own_candidates(observed: Observed, mark: OwnershipMark) -> tuple[Address, ...]:
    """Return the addresses that may be ours: with our protocol number, or on a managed link."""
    index = observed.address_index
    managed = (each for link in observed.links if owns_link(link, mark) for each in index.on(link.index))
    return tuple(dict.fromkeys((*index.marked(mark.protocol), *managed)))


def owns_address(address: Address, observed: Observed, mark: OwnershipMark) -> bool:
    """Return whether this is an address on a managed link with our protocol number.

    Kernels before 5.18 do not store the number, so every global address on a managed link is ours there.
    """
    may_be_ours = address.protocol == mark.protocol or not observed.keeps_address_protocol
    if address.link_local or not may_be_ours:
        # Decided before the search: a node has hundreds of links and addresses of pods.
        return False
    link = observed.find_link_at(address.link)
    return link is not None and owns_link(link, mark)


def owns_address_anywhere(address: Address, observed: Observed, mark: OwnershipMark) -> bool:
    """Return whether an address is on a managed link, or on any link with our number (link_mode ``address``)."""
    marked = observed.keeps_address_protocol and address.protocol == mark.protocol and not address.link_local
    return marked or owns_address(address, observed, mark)
