"""The addresses of many routes are found as by a search through all of them."""

from ipaddress import IPv4Network, IPv6Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from overlay_net.model.address_spans import AddressSpans
from overlay_net.model.route import MAIN_TABLE
from overlay_net.model.route_key import decode_destination, encode_route_key

ipv4 = st.builds(
    lambda number, length: IPv4Network((number << 24, length), strict=False), st.integers(9, 12), st.integers(0, 32)
)
ipv6 = st.builds(
    lambda number, length: IPv6Network((number << 112, length), strict=False), st.integers(9, 12), st.integers(0, 128)
)


@given(st.lists(ipv4 | ipv6, max_size=8), ipv4 | ipv6)
def test_a_subnet_begins_inside_exactly_if_one_of_the_routes_contains_its_first_address(
    routes: list[IPv4Network | IPv6Network], subnet: IPv4Network | IPv6Network
) -> None:
    spans = AddressSpans.covering(encode_route_key(each, 7, MAIN_TABLE) for each in routes)
    begins = any(subnet.network_address in each for each in routes)
    assert spans.has_start(decode_destination(encode_route_key(subnet, 0, MAIN_TABLE))) is begins
    assert spans.has_version(subnet.version) is any(each.version == subnet.version for each in routes)


def test_no_routes_have_no_addresses() -> None:
    everything = decode_destination(encode_route_key(ip_network("0.0.0.0/0"), 0, MAIN_TABLE))
    assert not AddressSpans.covering(()).has_start(everything)
