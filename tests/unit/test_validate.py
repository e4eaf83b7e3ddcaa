"""Single fields. If these fail, a typing error becomes a network that carries nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology import validate
from topology.errors import Invalid
from topology.model import Published


def _refusal(check: Callable[[], object]) -> str:
    with pytest.raises(Invalid) as caught:
        check()
    line = str(caught.value)
    assert line and line.isprintable() and len(line) < 300
    assert caught.value.status == 422
    return line


@pytest.mark.parametrize("value", ["a", "web", "contiv-srv-net", "a.b.c", "A9", "1", "x--y", "a" * 64])
def test_good_names(value: str) -> None:
    """A user of Contiv keeps the names of tenants and networks."""
    assert validate.name("tenantName", value) == value


@pytest.mark.parametrize(
    "value",
    ["-a", "a-", "a..b", ".a", "a.", "a_b", "a b", "a/b", "a:b", "ä", "a\n", "a.-b", "x" * 65, "\u0661"],
)
def test_bad_names(value: str) -> None:
    """A name that can't stand in a key, a path or a Docker network is refused where it is typed."""
    assert _refusal(lambda: validate.name("tenantName", value)).startswith("tenantName ")


@pytest.mark.parametrize("value", ["proj_default", "a__b", "a_b.c_d", "a-_b"])
def test_names_of_docker_compose(value: str) -> None:
    """A Compose project's network has in netctl the name that Docker shows."""
    assert validate.network_name(value) == value
    assert _refusal(lambda: validate.name("tenantName", value)).startswith(f"tenantName {value} is invalid")
    assert _refusal(lambda: validate.name("serviceName", value)).startswith(f"serviceName {value} is invalid")


@pytest.mark.parametrize(
    "value", ["-a", "_a", "a_", "a-", "a._b", "a..b", ".a", "a b", "a/b", "a:b", "a\n", "x" * 65, "\u0661"]
)
def test_bad_names_of_networks(value: str) -> None:
    """Docker's own names can't begin with a mark either."""
    assert _refusal(lambda: validate.network_name(value)).startswith("networkName ")


def test_empty_names_have_contivs_words() -> None:
    """Scripts look for the words they know."""
    assert _refusal(lambda: validate.name("serviceName", "")) == "Service name required"
    assert _refusal(lambda: validate.name("tenantName", "")) == "Tenant name required"
    assert _refusal(lambda: validate.name("networkName", "")) == "Network name required"


@pytest.mark.parametrize(("field", "limit"), [("tenantName", 64), ("networkName", 64), ("serviceName", 256)])
def test_lengths(field: str, limit: int) -> None:
    """A name as long as Contiv allows works; one longer says how long it may be."""
    validate.name(field, "x" * limit)
    assert f"at most {limit}" in _refusal(lambda: validate.name(field, "x" * (limit + 1)))


@pytest.mark.parametrize("value", ["bridge", "host", "none", "default"])
def test_names_that_docker_reserves(value: str) -> None:
    """`docker run --net=host` would not reach a network called host."""
    assert "reserved by Docker" in _refusal(lambda: validate.network_name(value))


@pytest.mark.parametrize(
    ("value", "net", "first", "last"),
    [
        ("10.1.1.0/24", "10.1.1.0/24", "10.1.1.1", "10.1.1.254"),
        ("10.1.1.10-10.1.1.20/24", "10.1.1.0/24", "10.1.1.10", "10.1.1.20"),
        ("10.1.1.10-10.1.1.10/24", "10.1.1.0/24", "10.1.1.10", "10.1.1.10"),
        ("10.1.1.4/30", "10.1.1.4/30", "10.1.1.5", "10.1.1.6"),
        ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.1", "10.255.255.254"),
    ],
)
def test_good_subnets(value: str, net: str, first: str, last: str) -> None:
    """A subnet and a range mean what they say, and are shown as typed."""
    found = validate.subnet(value)
    assert found == validate.Subnet(IPv4Network(net), IPv4Address(first), IPv4Address(last))
    assert str(found) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "subnet required"),
        ("10.1.1.0", "10.1.1.0 is invalid"),
        ("10.1.1.0/", "is invalid"),
        ("10.1.1.0/33", "is invalid"),
        ("10.1.1.0/024", "is invalid"),
        ("10.1.1.0/255.255.255.0", "is invalid"),
        ("10.1.1/24", "not an IPv4 address"),
        ("10.1.1.256/24", "not an IPv4 address"),
        ("010.1.1.0/24", "not an IPv4 address"),
        ("fe80::/64", "is invalid"),
        ("10.1.1.0/24\n", "is invalid"),
        ("10.1.1.5/24", "has host bits set: right is 10.1.1.0/24"),
        ("10.0.0.0/31", "subnet 10.0.0.0/31 is too small: "),
        ("10.0.0.0/32", "is too small"),
        ("10.1.1.20-10.1.1.10/24", "ends before it begins"),
        ("10.1.1.10-10.1.2.20/24", "not in one /24"),
        ("10.1.1.0-10.1.1.20/24", "within 10.1.1.1-10.1.1.254"),
        ("10.1.1.10-10.1.1.255/24", "within 10.1.1.1-10.1.1.254"),
        ("250.1.0.0/16", "overlaps 250.0.0.0/7"),
        ("251.1.0.0/16", "overlaps 250.0.0.0/7"),
        ("247.1.0.0/16", "overlaps 240.0.0.0/5"),
        ("249.0.0.0/24", "overlaps 249.0.0.0/8, which is kept for published services"),
        ("169.254.7.0/24", "overlaps 169.254.0.0/16, which is link-local, and the hosts' own"),
        ("239.0.0.0/24", "overlaps 224.0.0.0/4"),
        ("127.0.1.0/24", "overlaps 127.0.0.0/8"),
        ("0.1.0.0/16", "overlaps 0.0.0.0/8"),
        ("0.0.0.0/0", "overlaps 0.0.0.0/8"),
        ("64.0.0.0/2", "overlaps 127.0.0.0/8"),
        ("255.255.255.0/24", "overlaps 255.255.255.255/32"),
        ("9" * 5000 + "/24", "not an IPv4 address"),
    ],
)
def test_bad_subnets(value: str, words: str) -> None:
    """A subnet that can't work names what would."""
    assert words in _refusal(lambda: validate.subnet(value))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("10.1.2.1", "gateway 10.1.2.1 is outside subnet 10.1.1.0/24: right is 10.1.1.1 to 10.1.1.254"),
        ("10.1.1.0", "is the network address"),
        ("10.1.1.255", "is the broadcast address"),
    ],
)
def test_addresses_that_nothing_can_have(value: str, words: str) -> None:
    """A gateway or VIP that no packet would reach is refused."""
    net = IPv4Network("10.1.1.0/24")
    assert words in _refusal(lambda: validate.inside("gateway", IPv4Address(value), net))


OFFERED = [(8080, 80, "TCP"), (53, 5353, "TCP"), (53, 5353, "UDP")]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ()),
        (["80:8080:TCP"], (Published(80, 8080, "TCP"),)),
        (["80:8080"], (Published(80, 8080, "TCP"),)),
        (["53:53:udp", "53:53:Tcp"], (Published(53, 53, "UDP"), Published(53, 53, "TCP"))),
        (["80:8080", "81:8080"], (Published(80, 8080, "TCP"), Published(81, 8080, "TCP"))),
    ],
)
def test_good_published_ports(values: list[str], expected: object) -> None:
    """The protocol may be left out where there is no doubt; one port may be published twice."""
    assert validate.published(values, OFFERED) == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["80"], "Invalid publish. Its format is HostPort:ServicePort[:Protocol], such as 80:8080:TCP or 80:8080, "),
        ([""], "Invalid publish"),
        (["80:8080:TCP:x"], "Invalid publish"),
        (["x:8080"], "Invalid publish"),
        (["80:"], "Invalid publish"),
        (["127.0.0.1:80:8080"], "Invalid publish"),
        (["\u0668\u0660:8080"], "Invalid publish"),
        (["0:8080"], "port 0 in 0:8080 is out of range: 1 to 65535"),
        (["65536:8080:TCP"], "port 65536 in 65536:8080:TCP is out of range"),
        (["80:-8080"], "port -8080 "),
        (["80:8080:"], "protocol"),
        (["80:8080:SCTP"], "publish 80:8080:SCTP: SCTP can't be published: right is TCP or UDP"),
        (["80:8080:DCCP"], "protocol DCCP in 80:8080:DCCP is unknown: right is TCP, UDP or SCTP"),
        (["80:80"], "publish 80:80: the service has no port 80; it has 8080 TCP, 53 TCP, 53 UDP"),
        (["80:8080:UDP"], "publish 80:8080:UDP: the service has no port 8080 UDP; it has 8080 TCP,"),
        (["53:53"], "publish 53:53 is ambiguous: the service has 53 TCP and 53 UDP; right is 53:53:TCP or 53:53:UDP"),
        (["80:8080", "80:53:TCP"], "publish: host port 80 TCP is given twice (80:8080, 80:53:TCP): once is right"),
        (["80:8080", "80:8080"], "is given twice"),
    ],
)
def test_bad_published_ports(values: list[str], words: str) -> None:
    """`--publish 80` says in one line what would be right."""
    assert words in _refusal(lambda: validate.published(values, OFFERED))


def test_nothing_is_published_of_a_service_without_ports() -> None:
    """The line says that there are none."""
    assert "no port 80; it has none" in _refusal(lambda: validate.published(["80:80"], []))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["80:8080:TCP", "80:7070:UDP"], [(80, 8080, "TCP"), (80, 7070, "UDP")]),
        (["1:65535:tcp"], [(1, 65535, "TCP")]),
        ([], []),
    ],
)
def test_good_ports(values: Sequence[str], expected: object) -> None:
    """`tcp` works as `TCP` does; one number may serve both protocols."""
    assert validate.ports(values) == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["80:8080"], "Invalid port mapping. Port format is - Port:TargetPort:Protocol"),
        (["80"], "Invalid port mapping"),
        ([""], "Invalid port mapping"),
        (["80:8080:TCP:x"], "not 80:8080:TCP:x"),
        (["x:8080:TCP"], "Invalid port mapping"),
        (["80::TCP"], "Invalid port mapping"),
        (["8 0:80:TCP"], "Invalid port mapping"),
        (["\u0668\u0660:80:TCP"], "Invalid port mapping"),
        (["99999:80:TCP"], "port 99999 in 99999:80:TCP is out of range: 1 to 65535"),
        (["80:0:TCP"], "port 0 "),
        (["-5:80:TCP"], "port -5 "),
        (["80:65536:TCP"], "port 65536 "),
        (["80:80:DCCP"], "protocol DCCP in 80:80:DCCP is unknown: right is TCP, UDP or SCTP"),
        (["80:80:"], "protocol"),
        (["80:80: TCP"], "protocol"),
        (["80:8080:TCP", "80:9090:tcp"], "port 80 TCP is given twice (80:8080:TCP, 80:9090:tcp)"),
        (["80:8080:TCP", "80:8080:TCP"], "is given twice"),
    ],
)
def test_bad_ports(values: list[str], words: str) -> None:
    """A port mapping that Contiv took and then never served is refused."""
    assert words in _refusal(lambda: validate.ports(values))


def test_selectors() -> None:
    """Selectors are a set; an empty value is a value; only the first = divides."""
    assert validate.selectors(["tier=web", "a=", "b=c=d"]) == (("a", ""), ("b", "c=d"), ("tier", "web"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["ab"], "Invalid selector ab. selector format is key1=value1"),
        (["=x"], "Invalid selector =x. selector format is key1=value1"),
        ([""], "Invalid selector"),
        (["a=1", "a=2"], "selector a is given twice (1, 2)"),
        (["a=1", "a=1"], "selector a is given twice"),
        (["a=\ud800"], "is not valid Unicode text"),
    ],
)
def test_bad_selectors(values: list[str], words: str) -> None:
    """A selector that could never match, or says two things, is refused."""
    assert words in _refusal(lambda: validate.selectors(values))


def test_macs() -> None:
    """A MAC address is stored in one form, whichever way it was typed."""
    assert validate.mac("02-42-0A-01-01-05") == "02:42:0a:01:01:05"


@pytest.mark.parametrize(
    "value", ["", "02:42", "02:42:0a:01:01:0g", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"]
)
def test_bad_macs(value: str) -> None:
    """A group address as a source would be answered to everybody."""
    assert _refusal(lambda: validate.mac(value)).startswith("macAddress ")


def test_choices_name_the_choices() -> None:
    """An unknown word is answered with the known ones."""
    line = _refusal(lambda: validate.choice("encap", "gre", validate.ENCAPS))
    assert line == "encap gre is unknown: right is vxlan or vlan"
    assert "1 to 4094" in _refusal(lambda: validate.tag("vlan", 4095))
    assert "1 to 16773119" in _refusal(lambda: validate.tag("vxlan", 0xFFF000))
    assert "pktTag -1" in _refusal(lambda: validate.tag("vxlan", -1))


CHECKS: list[Callable[[str], object]] = [
    validate.subnet,
    validate.subnet6,
    validate.network_name,
    validate.mac,
    validate.endpoint_id,
    lambda v: validate.name("serviceName", v),
    lambda v: validate.address("ipAddress", v),
    lambda v: validate.any_address("ipAddress", v),
    lambda v: validate.ports([v]),
    lambda v: validate.published([v], OFFERED),
    lambda v: validate.selectors([v]),
    lambda v: validate.text("portName", v),
    lambda v: validate.labels({"key": v}),
    lambda v: validate.choice("state", v, validate.STATES),
]


@given(st.sampled_from(CHECKS), st.text() | st.text("0123456789.:-/=%abfTCP", max_size=40))
def test_any_text_is_taken_or_refused_in_one_line(check: Callable[[str], object], value: str) -> None:
    """No input, however odd, is answered with a traceback or breaks a log into two lines."""
    try:
        check(value)
    except Invalid as error:
        assert str(error).isprintable()
        assert len(str(error)) < 400
