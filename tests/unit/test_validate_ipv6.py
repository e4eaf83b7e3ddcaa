"""Single fields of IPv6. If these fail, an address has two names, or two have one."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from topology import validate
from topology.errors import Invalid


def _refusal(check: Callable[[], object]) -> str:
    with pytest.raises(Invalid) as caught:
        check()
    line = str(caught.value)
    assert line and line.isprintable() and len(line) < 300
    return line


@pytest.mark.parametrize(
    ("value", "net"),
    [
        ("fd00:1::/64", "fd00:1::/64"),
        ("FD00:0001:0:0::/64", "fd00:1::/64"),
        ("2001:db8:0:0:1::/80", "2001:db8:0:0:1::/80"),
        ("fd00::/48", "fd00::/48"),
        ("fd00::4/126", "fd00::4/126"),
        ("100:0:0:1::/64", "100:0:0:1::/64"),
    ],
)
def test_good_ipv6_subnets(value: str, net: str) -> None:
    """However an IPv6 subnet is typed, it is shown in one form: lower case, RFC 5952."""
    assert validate.subnet6(value) == IPv6Network(net)
    assert str(validate.subnet6(value)) == net


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("fd00::", "ipv6Subnet fd00:: is invalid: right is fd00:1::/64"),
        ("fd00::/", "is invalid"),
        ("fd00::/129", "is invalid"),
        ("fd00::/-1", "is invalid"),
        ("fd00::/64/64", "is invalid"),
        ("fd00::/64 ", "is invalid"),
        ("fd00::1-fd00::9/64", "is invalid"),
        ("fd00::%eth0/64", "is invalid"),
        ("fd00::/\u0666\u0664", "is invalid"),
        ("10.1.1.0/64", "10.1.1.0 is not an IPv6 address"),
        ("fd00:::/64", "ipv6Subnet fd00::: is not an IPv6 address"),
        ("12345::/64", "is not an IPv6 address"),
        ("fd00::/47", "ipv6Subnet fd00::/47: /47 is out of range: right is /48 to /126"),
        ("fd00::/127", "/127 is out of range"),
        ("::/0", "/0 is out of range"),
        ("fd00::1/64", "has host bits set: right is fd00::/64"),
        ("FD00::A:0:0:1/64", "has host bits set: right is fd00::/64"),
        ("::/64", "overlaps ::/8"),
        ("::ffff:10.1.1.0/120", "overlaps ::/8"),
        ("ff02::/64", "overlaps ff00::/8, which is multicast"),
        ("fe80::/64", "overlaps fe80::/10, which is link-local"),
        ("100::/64", "overlaps 100::/64, which is kept for the providers' hidden addresses"),
        ("100::/48", "overlaps 100::/64"),
        ("100::1:0/112", "overlaps 100::/64"),
    ],
)
def test_bad_ipv6_subnets(value: str, words: str) -> None:
    """An IPv6 subnet that can't work names what would."""
    assert words in _refusal(lambda: validate.subnet6(value))


def test_no_ipv6_address_is_a_number_of_an_ipv4_one() -> None:
    """The two families of a network share one table of numbers: none may stand for two addresses."""
    lowest = next(n for n in validate.RESERVED6 if int(n.network_address) == 0)
    assert int(lowest.broadcast_address) >= int(IPv4Address("255.255.255.255"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("fd00::5", "fd00::5"),
        ("FD00:0:0:0:0:0:0:5", "fd00::5"),
        ("fd00::0.0.0.5", "fd00::5"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("10.1.1.5", "10.1.1.5"),
    ],
)
def test_addresses_have_one_form(value: str, shown: str) -> None:
    """An address that was typed in capitals is found again by its key."""
    found = validate.any_address("ipAddress", value)
    assert str(found) == shown
    assert validate.any_address("ipAddress", found) is found


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("fd00::5%eth0", "ipAddress fd00::5%eth0 has a zone: right is fd00::5"),
        ("fd00::5/64", "is not an IPv6 address such as fd00:1::5"),
        ("fd00::g", "is not an IPv6 address"),
        ("[fd00::5]", "is not an IPv6 address"),
        (":", "is not an IPv6 address"),
        ("", "is not an IPv4 address"),
        ("10.1.1", "is not an IPv4 address such as 10.1.1.5"),
        ("1", "is not an IPv4 address"),
    ],
)
def test_bad_addresses(value: str, words: str) -> None:
    """A mistyped address of either family is named, with one that is right."""
    assert words in _refusal(lambda: validate.any_address("ipAddress", value))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("fd00:2::1", "ipv6Gateway fd00:2::1 is outside subnet fd00:1::/120: right is fd00:1::1 to fd00:1::ff"),
        ("fd00:1::", "ipv6Gateway fd00:1:: is the routers' anycast address of subnet fd00:1::/120"),
        ("fd00:1::100", "is outside"),
    ],
)
def test_ipv6_addresses_that_nothing_can_have(value: str, words: str) -> None:
    """The all-zero address of an IPv6 subnet is every router's; the last one is as good as any."""
    net = IPv6Network("fd00:1::/120")
    assert words in _refusal(lambda: validate.inside("ipv6Gateway", IPv6Address(value), net))
    assert validate.inside("ipv6Gateway", IPv6Address("fd00:1::ff"), net)


@pytest.mark.parametrize(("family", "address", "version"), [(None, "", 4), (4, "", 4), (6, "", 6), (6, "fd00::1", 6)])
def test_families(family: int | None, address: str, version: int) -> None:
    """Who asks for no family in particular is given IPv4."""
    assert validate.family(family, validate.any_address("ipAddress", address) if address else None) == version


@pytest.mark.parametrize(
    ("family", "address", "words"),
    [
        (5, None, "family 5 is unknown: right is 4 or 6"),
        (0, None, "family 0 is unknown"),
        (4, "fd00::1", "family 4 is not that of ipAddress fd00::1: right is 6, or none"),
        (6, "10.1.1.1", "right is 4, or none"),
    ],
)
def test_bad_families(family: int, address: str | None, words: str) -> None:
    """A wish that says two things is not half fulfilled."""
    wanted = None if address is None else validate.any_address("ipAddress", address)
    assert words in _refusal(lambda: validate.family(family, wanted))
