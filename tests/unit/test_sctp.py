"""SCTP: carried out where the switch's conntrack knows its ports, refused or left out where it does not.

This kernel has no SCTP sockets, and the userspace conntrack here is too old: so what would be sent is looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ryu_apps import answers
from ryu_apps.controller import version_of
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Program
from ryu_apps.pipeline.fields import SCTP
from ryu_apps.pipeline.tables import FlowKind, Table
from ryu_apps.pipeline.values import Ct, GroupAction, terms
from tests.kit import world
from tests.unit.rest_kit import Rest
from topology.model import Service, ServicePort
from topology.observed import Switch

APP, W1 = ("service", "default:app-svc"), ("endpoint", "w1")
PORT = ServicePort(3868, 3868, "SCTP", 77)


def compiled(owner: tuple[str, str], *, sctp: bool, **options: Any) -> Program:
    """An owner of the world, whose app-svc also has an SCTP port."""
    objects = world.objects()
    app = next(o for o in objects if isinstance(o, Service) and o.key == APP[1])
    changed = replace(app, ports=(*app.ports, PORT), **options)
    model = world.model_of([changed if o is app else o for o in objects])
    return compile_owner(Context(model, world.DPID, world.PORTS, sctp), owner)


def with_ports(program: Program) -> list[dict[str, Any]]:
    """The matches that name a port of SCTP."""
    found = [terms(flow.match) for flow in program.flows]
    return [m for m in found if "sctp_src" in m or "sctp_dst" in m]


@pytest.mark.parametrize("options", [{}, {"affinity": 60}], ids=["spread", "affinity"])
def test_it_is_balanced_where_it_can_be(options: dict[str, int]) -> None:
    """Diameter and the like could not be a service, although the switch is able to."""
    program = compiled(APP, sctp=True, **options)
    first = [
        flow
        for flow in program.flows
        if flow.table == Table.BALANCE and terms(flow.match).get("sctp_dst") == PORT.port
    ]
    assert [terms(flow.match)["ip_proto"] for flow in first] == [SCTP]
    groups = {g.id: g for g in program.groups}
    assert PORT.number << 8 in groups
    chosen = [f for f in program.flows if GroupAction(PORT.number << 8) in f.actions]
    assert len(chosen) == 1
    commits = [a for f in compiled(W1, sctp=True).flows for a in f.actions if isinstance(a, Ct) and a.commit]
    assert commits
    assert {t.target for t in program.translations if t.ip_proto == SCTP} == {PORT.target}
    assert {m["sctp_dst" if "sctp_dst" in m else "sctp_src"] for m in with_ports(compiled(W1, sctp=True))} == {3868}


@pytest.mark.parametrize("owner", [APP, W1])
def test_it_is_left_out_where_it_can_not_be(owner: tuple[str, str]) -> None:
    """A switch without SCTP in its conntrack would translate to any port, or refuse all of the service."""
    program = compiled(owner, sctp=False)
    assert not with_ports(program)
    assert PORT.number << 8 not in {g.id for g in program.groups}
    without = compile_owner(Context(world.model(), world.DPID, world.PORTS), owner)
    assert set(program.flows) == set(without.flows)


def test_nobody_home() -> None:
    """A client of an SCTP port that no service has would wait until it gives up by itself."""
    refused = [f for f in compiled(APP, sctp=True).flows if f.kind == FlowKind.REFUSE]
    assert SCTP in {terms(f.match).get("ip_proto") for f in refused}
    header = bytes.fromhex("4500002000010000408400001401010164010101")
    total = sum(int.from_bytes(header[n : n + 2], "big") for n in range(0, 20, 2))
    checksum = ~(total % 0xFFFF) & 0xFFFF
    header = header[:10] + checksum.to_bytes(2, "big") + header[12:]
    answer = answers.refuse(bytes.fromhex("0e4e43000001020000000001 0800") + header + bytes(12))
    assert answer is not None
    assert answer[23] == 1
    assert answer[34:36] == bytes((3, 2)), "protocol unreachable, for which Linux gives the association up"


@pytest.mark.parametrize(
    ("version", "datapath_type", "knows"),
    [
        ((3, 1, 0), "netdev", False),
        ((3, 1, 0), "system", True),
        ((3, 3), "netdev", True),
        ((3, 10, 1), "", True),
        ((2, 17, 9), "", False),
        ((), "", False),
    ],
)
def test_who_knows_its_ports(version: tuple[int, ...], datapath_type: str, knows: bool) -> None:
    """It would be refused where it works, or taken where it does not."""
    assert Switch(1, version=version).knows_sctp(datapath_type) is knows


@pytest.mark.parametrize(
    ("text", "version"),
    [("3.1.0", (3, 1, 0)), ("3.3.0~git", (3, 3, 0)), ("3.2", (3, 2)), ("None", ()), ("", ())],
)
def test_the_version_that_a_switch_tells(text: str, version: tuple[int, ...]) -> None:
    """The switch's abilities are told by it."""
    assert version_of(text) == version


def test_it_is_refused_with_one_line() -> None:
    """A service that no switch carries out would be created, and the client find out."""
    rest = Rest()
    try:
        rest.network()
        body = {"networkName": "net", "selectors": ["a=b"], "ports": ["80:80:TCP", "3868:3868:sctp"]}
        status, text = rest.refused("POST", "/serviceLBs/default:app/", body)
    finally:
        rest.close()
    assert status == 422
    assert text == (
        "protocol SCTP in 3868:3868:SCTP is refused: the conntrack of host h1 (Open vSwitch 3.1.0) does not know "
        "SCTP's ports, Open vSwitch 3.3 or a kernel's datapath does; right is TCP or UDP"
    )
