"""The index of a node's addresses finds what a search through all of them finds."""

from ipaddress import ip_address, ip_interface, ip_network

from hypothesis import given
from hypothesis import strategies as st

from overlay_net.model.kernel import Address, Addresses, Observed

ADDRESSES = st.lists(
    st.builds(
        Address,
        link=st.integers(1, 3),
        interface=st.sampled_from(
            [ip_interface(each) for each in ("10.0.0.1/24", "10.0.0.1/32", "10.0.0.2/24", "fd00::1/64", "fd00::1/128")]
        ),
        protocol=st.sampled_from([None, 117]),
        dad_failed=st.booleans(),
    ),
    max_size=8,
)


@given(ADDRESSES)
def test_lookups_find_what_a_search_finds(found: list[Address]) -> None:
    index = Observed(addresses=tuple(found)).address_index
    for ip in map(ip_address, ("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1")):
        assert index.at(ip) == tuple(each for each in found if each.interface.ip == ip)
        assert (ip in index.ips) == any(each.interface.ip == ip for each in found)
        assert (ip in index.ips_of_node) == any(each.interface.ip == ip and not each.dad_failed for each in found)
    for link in range(1, 5):
        assert index.on(link) == tuple(each for each in found if each.link == link)
    for subnet in map(ip_network, ("10.0.0.0/24", "10.0.0.1/32", "10.0.0.0/8", "fd00::/64", "fd00::1/128")):
        assert index.in_subnet(subnet) == tuple(each for each in found if each.interface.network == subnet)
    assert index.marked(117) == tuple(each for each in found if each.protocol == 117)


def test_observed_addresses_with_an_index_keep_it() -> None:
    index = Addresses((Address(1, ip_interface("10.0.0.1/24"), None),))
    assert Observed(addresses=index).address_index is index
