"""Flows in names. If these fail, whoever looks into a switch reads something else than what is there."""

from __future__ import annotations

import re

import pytest

from ryu_apps.pipeline import tables
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.dependents import owners
from ryu_apps.pipeline.fields import CT_NEW, CT_RPL, CT_TRK, ETH_ARP, TCP, TCP_RST, TCP_SYN, UDP
from ryu_apps.pipeline.show import Shown
from ryu_apps.pipeline.tables import FlowKind, Priority, Table
from ryu_apps.pipeline.values import (
    CONTROLLER,
    IN_PORT,
    LOCAL,
    Action,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    GroupAction,
    Learn,
    Move,
    Nat,
    Output,
    OutputReg,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    match,
)
from tests.kit import world

IP, IPV6 = {"eth_type": 0x0800}, {"eth_type": 0x86DD}
NEW = (CT_TRK | CT_NEW, CT_TRK | CT_NEW | CT_RPL)


@pytest.fixture
def shown() -> Shown:
    return Shown(Context(world.model(), world.DPID, world.PORTS))


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        ({}, "any"),
        ({"in_port": 2, "eth_src": world.mac(2)}, "in_port=w1 eth_src=02:00:00:00:00:02"),
        ({"in_port": LOCAL}, "in_port=host"),
        ({"in_port": 77}, "in_port=77"),
        ({tables.TENANT: 2, **IP, "ipv4_dst": (world.ip("10.1.1.0"), 0xFFFFFF00)}, "ip tenant=blue dst=10.1.1.0/24"),
        ({**IP, "ipv4_src": (0x0A000001, 0xFF0000FF)}, "ip src=10.0.0.1/255.0.0.255"),
        ({**IP, "ip_proto": TCP, "tcp_dst": 80, "ct_state": NEW}, "tcp tcp_dst=80 ct_state=+new+trk-rpl"),
        ({**IPV6, "ip_proto": UDP, "udp_src": 53}, "udp6 udp_src=53"),
        ({**IPV6, "ipv6_dst": (0xFD << 120, 0xFF << 120)}, "ipv6 dst=fd00::/8"),
        ({**IP, "ip_proto": 47}, "ip ip_proto=47"),
        ({"eth_type": ETH_ARP, "arp_tpa": world.ip("10.1.1.254")}, "arp arp_tpa=10.1.1.254"),
        ({"eth_dst": tables.MULTICAST, tables.NETWORK: 3}, "network=clients eth_dst=multicast"),
        ({"eth_dst": tables.ROUTER_MAC, tables.NETWORK: tables.HOST_NETWORK}, "network=host eth_dst=router"),
        ({tables.NETWORK: tables.OUTSIDE_NETWORK}, "network=outside"),
        ({tables.PROVIDER: 3, tables.PORT: 4}, "port=o1 provider=w2"),
        ({tables.REASON: FlowKind.SEEK}, "reason=seek"),
        ({**IP, "ip_proto": TCP, "tcp_flags": (TCP_SYN, TCP_SYN | TCP_RST)}, "tcp tcp_flags=+syn-rst"),
        ({**IP, "ip_frag": (1, 3)}, "ip ip_frag=first"),
        ({tables.TENANT: 99, "vlan_vid": (0x1000, 0x1000)}, "tenant=99 vlan_vid=0x1000/0x1000"),
    ],
)
def test_matches(shown: Shown, terms: dict[str, int | tuple[int, int]], text: str) -> None:
    """A user would look for a packet in a flow that it does not meet."""
    assert shown.match(Flow(Table.ROUTE, Priority.NORMAL, match(**terms))) == text


@pytest.mark.parametrize(
    ("actions", "more", "text"),
    [
        ((), {}, "drop"),
        ((Output(2), Output(CONTROLLER), Output(IN_PORT)), {}, "output w1, output controller, output in_port"),
        ((OutputReg(tables.PORT),), {}, "output the port in port"),
        ((GroupAction(256),), {}, "group 256"),
        ((SetField(tables.TENANT, 1),), {"goto": Table.REPLY}, "set tenant=default, goto reply"),
        ((Move("ipv4_src", "ipv4_dst"), DecTtl()), {}, "copy src to dst, decrement TTL"),
        ((Move(tables.ZERO, "in_port", bits=16),), {}, "copy zero to in_port (16 bits)"),
        ((PushVlan(), PopVlan(), CtClear()), {}, "push VLAN tag, pop VLAN tag, ct_clear"),
        ((Resubmit(Table.STICKY),), {}, "resubmit to sticky"),
        ((Learn(Table.STICKY, 1, ()),), {}, "learn in sticky"),
        ((Ct(1, table=Table.BALANCE, nat=Nat()),), {}, "ct(zone=default, nat) to balance"),
        (
            (Ct(2 | tables.HAIRPIN_ZONES, commit=True, nat=Nat(src=world.ip("10.1.1.1"))),),
            {},
            "ct(zone=blue/second, commit, nat src=10.1.1.1)",
        ),
        (
            (Ct(1, commit=True, nat=Nat(dst=world.ip("10.1.1.1"), port=80), exec=(SetField("ct_mark", 7),)),),
            {},
            "ct(zone=default, commit, nat dst=10.1.1.1:80, set ct_mark=7)",
        ),
        ((Ct(1, nat=Nat(dst=0xFD << 120, port=80, version=6)),), {}, "ct(zone=default, nat dst=[fd00::]:80)"),
        ((), {"meter": tables.EXPIRE_METER}, "meter (time exceeded)"),
        ((), {"meter": tables.REFUSE_METERS | 1}, "meter (refusals of default)"),
        ((), {"meter": tables.FORGOTTEN_METERS | 2}, "meter (resets of blue)"),
    ],
)
def test_actions(shown: Shown, actions: tuple[Action, ...], more: dict[str, int], text: str) -> None:
    """A user would think that a packet goes where it does not go."""
    assert shown.actions(Flow(Table.ROUTE, Priority.NORMAL, (), actions, **more)) == text


def test_all_that_is_compiled(shown: Shown) -> None:
    """Some flow would have a number where a name is known, or could not be shown at all."""
    for model in (world.model(), world.model_of(world.dual())):
        context = Context(model, world.DPID, world.PORTS)
        texts = Shown(context)
        for owner in owners(model):
            for flow in compile_owner(context, owner).flows:
                for text in (texts.match(flow), texts.actions(flow)):
                    assert text and text.isprintable()
                    assert not re.search(r"\breg\d|in_port=\d|(tenant|network|port|zone)=\d", text), text
