"""Which networks a host has its routes to."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from topology.reach import reached

SUBNETS = st.builds(
    lambda bits, length: ip_network((bits << 32 - length & 0xFFFFFFFF, length), strict=False),
    st.integers(0, 63),
    st.integers(2, 6),
)


def test_the_oldest_of_those_that_overlap() -> None:
    """A younger network of another tenant would take the host's route from an older one."""
    subnets = {3: "10.1.1.0/24", 1: "10.1.0.0/16", 2: "20.1.1.0/24", 5: "20.1.1.0/25", 4: "30.1.1.0/24"}
    found = [(number, ip_network(subnet), subnet) for number, subnet in subnets.items()]

    assert reached(found) == ["10.1.0.0/16", "20.1.1.0/24", "30.1.1.0/24"]
    del found[1]
    assert reached(found) == ["20.1.1.0/24", "10.1.1.0/24", "30.1.1.0/24"]


@given(st.lists(SUBNETS, max_size=12))
def test_as_one_would_by_hand(subnets: list[IPv4Network]) -> None:
    """Controller and agent would route to different networks."""
    by_hand: list[int] = []
    for number, subnet in enumerate(subnets):
        if not any(subnet.overlaps(subnets[other]) for other in by_hand):
            by_hand.append(number)
    found = [(number, subnet, number) for number, subnet in enumerate(subnets)]

    assert reached(reversed(found)) == by_hand
