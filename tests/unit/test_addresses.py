"""The index of a node's addresses finds what a search through all of them finds."""

from ipaddress import ip_address, ip_interface, ip_network
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from overlay_net.model.kernel import Address, Addresses, Observed

ADDRESSES = st.lists(
    st.builds(
        Address,
        link=st.integers(1, 3),
        interface=st.sampled_from(
            [
                ip_interface(each)
                for each in ("10.0.0.1/24", "10.0.0.1/32", "10.0.0.2/24", "fd00::1/64", "fd00::1/128", "::a00:1/64")
            ]
        ),
        protocol=st.sampled_from([None, 117]),
        dad_failed=st.booleans(),
    ),
    max_size=8,
)


@given(ADDRESSES, st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "::a00:1"]))
def test_addresses_are_found_by_ip(found: list[Address], text: str) -> None:
    index, ip = Observed(addresses=tuple(found)).address_index, ip_address(text)
    assert index.at(ip) == tuple(each for each in found if each.interface.ip == ip)
    assert index.ipv4 == {int(each.interface.ip) for each in found if each.interface.version == 4}


@given(ADDRESSES, st.sampled_from(["10.0.0.0/24", "10.0.0.1/32", "10.0.0.0/8", "fd00::/64", "fd00::1/128"]))
def test_addresses_are_found_by_link_subnet_and_protocol(found: list[Address], text: str) -> None:
    index, subnet = Observed(addresses=tuple(found)).address_index, ip_network(text)
    assert index.in_subnet(subnet) == tuple(each for each in found if each.interface.network == subnet)
    assert list(index.on(2)) == [each for each in found if each.link == 2]
    assert list(index.marked(117)) == [each for each in found if each.protocol == 117]


@given(ADDRESSES, st.sampled_from(["10.0.0.1", "fd00::1", "::a00:1"]), st.sampled_from(["10.0.0.0/24", "10.0.0.1/32"]))
def test_addresses_that_are_joined_are_found_like_others(found: list[Address], text: str, subnet: str) -> None:
    parts = [Addresses(each for each in found if each.link == link) for link in (1, 2, 3)]
    joined, alone = Addresses.join(parts), Addresses(chain.from_iterable(parts))
    assert joined == alone
    assert joined.at(ip_address(text)) == alone.at(ip_address(text))
    assert joined.in_subnet(ip_network(subnet)) == alone.in_subnet(ip_network(subnet))
    assert (joined.ipv4, joined.with_neighbours) == (alone.ipv4, alone.with_neighbours)
    for number in (1, 2, 117):
        assert list(joined.on(number)) == list(alone.on(number))
        assert list(joined.marked(number)) == list(alone.marked(number))


def test_observed_addresses_with_an_index_keep_it() -> None:
    index = Addresses((Address(1, ip_interface("10.0.0.1/24"), None),))
    assert Observed(addresses=index).address_index is index
