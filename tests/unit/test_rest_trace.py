"""Which connection is traced: what a question must say, and one line where it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from ryu_apps.pipeline.fields import ICMP, ICMPV6, TCP, UDP
from ryu_apps.pipeline.trace import Question
from ryu_apps.switches import Switches
from ryu_apps.view import SwitchesView
from tests.unit import rest_kit
from tests.unit.rest_kit import Json, Rest
from topology.errors import Unavailable

ASKED: list[Question] = []
NOBODY = (
    "from nobody: no container or endpoint of this name or id is in a network of netctl; a container in other networks "
    "alone, such as Docker's bridge, reaches none of netctl's: docker network connect NETWORK nobody"
)


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rest]:
    def trace(self: object, question: Question) -> Json:
        ASKED.append(question)
        return {}

    ASKED.clear()
    monkeypatch.setattr(rest_kit.Switches, "trace", trace)
    made = Rest()
    made.network()
    made.endpoint("e1", containerID="c0ffee", containerName="/web-1")
    made.endpoint("e2", portName="p2", containerName="/web-2")
    made.network("dual", "10.2.1.0/24", ipv6Subnet="fd00:1::/64")
    made.endpoint("d1", networkName="dual", portName="p3")
    made.host("h7")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("from=e1&to=10.1.1.2&port=80", (TCP, 80, 0, "10.1.1.1")),
        ("from=web-1&to=10.1.1.2&port=80&proto=UDP", (UDP, 80, 0, "10.1.1.1")),
        ("from=/web-1&to=10.1.1.2", (ICMP, 0, 0, "10.1.1.1")),
        ("from=c0ff&to=10.1.1.2&port=80&proto=tcp&sourcePort=4000", (TCP, 80, 4000, "10.1.1.1")),
        ("from=e1&to=10.1.1.2&source=10.1.1.9&proto=icmp", (ICMP, 0, 0, "10.1.1.9")),
    ],
)
def test_questions(rest: Rest, query: str, wanted: tuple[int, int, int, str]) -> None:
    """Another connection would be traced than the one that was asked about."""
    rest.call("GET", f"/trace/?{query}")
    (question,) = ASKED
    assert (question.sender.id, question.to) == ("e1", IPv4Address("10.1.1.2"))
    assert (question.protocol, question.port, question.source_port, str(question.source)) == wanted


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("from=d1&to=fd00:1::2&port=80", (TCP, 80, "fd00:1::1")),
        ("from=d1&to=FD00:1:0::2", (ICMPV6, 0, "fd00:1::1")),
        ("from=d1&to=fd00:1::2&source=fd00:1::9&proto=icmp", (ICMPV6, 0, "fd00:1::9")),
        ("from=e1&to=fd00:1::2&source=fd00:1::9&proto=udp&port=53", (UDP, 53, "fd00:1::9")),
    ],
)
def test_questions_of_ipv6(rest: Rest, query: str, wanted: tuple[int, int, str]) -> None:
    """A connection by IPv6 would be traced as one by IPv4, or from the wrong address."""
    rest.call("GET", f"/trace/?{query}")
    (question,) = ASKED
    assert question.to == IPv6Address("fd00:1::2")
    assert (question.protocol, question.port, str(question.source)) == wanted


@pytest.mark.parametrize(
    ("query", "status", "line"),
    [
        ("to=10.1.1.2", 400, "from: missing, an endpoint or container"),
        ("from=e1", 400, "to: missing, an address"),
        ("from=nobody&to=10.1.1.2", 404, NOBODY),
        ("from=h7&to=10.1.1.2", 422, "from h7: a host, and a trace begins at a container or endpoint; on the host "
         "itself try the address with nc, curl or ping"),
        ("from=web-1&to=127.0.0.1&port=80", 422, "to 127.0.0.1: web-1's own loopback, such packets do not leave it"),
        ("from=d1&to=::1", 422, "to ::1: d1's own loopback, such packets do not leave it"),
        ("from=e1&to=0.0.0.0&port=80", 422, "to 0.0.0.0: web-1's own loopback, such packets do not leave it"),
        ("from=web&to=10.1.1.2", 409, "endpoint web is ambiguous: web-1 (e1, network default:net), "
         "web-2 (e2, network default:net)"),
        ("from=e1&to=app", 422, "to app: must be an IPv4 or IPv6 address"),
        ("from=e1&to=fe80::1%25eth0", 422, "to fe80::1%eth0: must be an IPv4 or IPv6 address"),
        ("from=e1&to=fd00:1::2", 422, "to fd00:1::2: e1 has no IPv6 address to send from"),
        ("from=d1&to=fd00:1::1", 422, "to fd00:1::1: d1's own address, such packets do not leave it"),
        ("from=d1&to=fd00:1::2&source=10.2.1.1", 422, "source 10.2.1.1: must be IPv6, as fd00:1::2 is"),
        ("from=d1&to=10.1.1.2&source=fd00:1::1", 422, "source fd00:1::1: must be IPv4, as 10.1.1.2 is"),
        ("from=e1&to=10.1.1.1", 422, "to 10.1.1.1: web-1's own address, such packets do not leave it"),
        ("from=e1&to=10.1.1.2&port=0", 422, "port 0: must be 1 to 65535"),
        ("from=e1&to=10.1.1.2&port=80&sourcePort=x", 422, "sourcePort x: must be 1 to 65535"),
        ("from=e1&to=10.1.1.2&proto=tcp", 422, "port: missing, tcp needs one"),
        ("from=e1&to=10.1.1.2&proto=icmp&port=80", 422, "port: icmp has none"),
        ("from=e1&to=10.1.1.2&proto=sctp&port=80", 422, "proto sctp: must be tcp, udp or icmp"),
        ("from=e1&to=10.1.1.2&source=me", 422, "source me: must be an IPv4 or IPv6 address"),
    ],
)
def test_refusals(rest: Rest, query: str, status: int, line: str) -> None:
    """A mistyped question would end in an internal error, or be answered for another connection."""
    assert rest.refused("GET", f"/trace/?{query}") == (status, line)


@pytest.mark.parametrize(
    ("query", "sender"),
    [
        ("from=multi&to=10.1.1.2&port=80", "m1"),  # a neighbour of this one
        ("from=c0de&to=10.2.1.9&port=80", "m2"),
        ("from=multi&to=fd00:1::9&port=80", "m2"),
        ("from=multi&to=10.3.1.9&port=80", "m2"),  # another network of the tenant: by the primary address
        ("from=multi&to=192.0.2.9", "m2"),
        ("from=multi&to=192.0.2.9&source=10.1.1.7", "m1"),
        ("from=m1&to=10.2.1.9", "m1"),
    ],
)
def test_a_container_with_several_addresses(rest: Rest, query: str, sender: str) -> None:
    """A container in several networks could not be traced by its name, or from an address that it does not take."""
    several = {"containerID": "c0de", "containerName": "/multi"}
    rest.endpoint("m1", portName="p5", ipAddress=["10.1.1.7"], **several)
    rest.endpoint("m2", networkName="dual", portName="p6", primary=True, **several)
    rest.network("third", "10.3.1.0/24")
    rest.call("GET", f"/trace/?{query}")
    assert [question.sender.id for question in ASKED] == [sender]


def test_a_container_whose_primary_address_is_not_known(rest: Rest) -> None:
    """A trace would begin at an address that was guessed."""
    several = {"containerID": "c0de", "containerName": "/multi"}
    rest.endpoint("m1", portName="p5", **several)
    rest.endpoint("m2", networkName="dual", portName="p6", **several)
    assert rest.refused("GET", "/trace/?from=multi&to=10.3.1.9") == (
        409, "endpoint multi is ambiguous: multi (m1, network default:net), multi (m2, network default:dual)"
    )  # fmt: skip


def test_a_switch_that_is_not_connected(rest: Rest) -> None:
    """An answer would be made up for a switch that nobody knows anything of."""
    sender = rest.model.endpoints["e1"]
    question = Question(sender, sender.addresses[0], IPv4Address("10.1.1.2"), TCP, 80)
    with pytest.raises(Unavailable, match=r"^switch 000000000000000a, where e1 is, is not connected$"):
        SwitchesView(rest.model, Switches(rest.model)).trace(question)
