"""Broadcast in a network with more ports than one message can name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import cast

import pytest

from ryu_apps.openflow import codec
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Program
from ryu_apps.pipeline.features import flood
from ryu_apps.pipeline.tables import FlowKind
from ryu_apps.pipeline.values import GroupAction, Output
from ryu_apps.pipeline.ways import is_way
from tests.kit import world
from tests.kit.fakeswitch import FakeSwitch
from tests.kit.packets import BROADCAST, W1, udp
from topology.allocate import LIMITS
from topology.model import Endpoint, Network
from topology.snapshot import Model

WEB = ("network", "default:web")


def crowded(numbers: Iterable[int]) -> tuple[Model, dict[str, int]]:
    """The world with endpoints at these ports as well, all in one network of two; and all ports."""
    objects = [o for o in world.objects() if o.key != WEB[1]]
    wide = IPv4Network("10.0.0.0/8")
    network = cast(Network, next(o for o in world.objects() if o.key == WEB[1]))
    objects.append(replace(network, subnet=wide, first=wide[1], last=wide[-2]))
    first = int(IPv4Address("10.2.0.0"))
    ports = dict(world.PORTS)
    for n in numbers:
        objects.append(
            Endpoint(f"q{n}", "default", "web", n + 1000, (IPv4Address(first + n),), world.mac_text(n + 1000),
                     switch=world.DPID, port_name=f"q{n}")
        )  # fmt: skip
        ports[f"q{n}"] = n
    return world.model_of(objects), ports


def web(of: Model, ports: dict[str, int]) -> Program:
    """What the network wants."""
    return compile_owner(Context(of, world.DPID, ports), WEB)


def broadcast(program: Program) -> tuple[object, ...]:
    (flow,) = [f for f in program.flows if f.kind == FlowKind.FLOOD]
    return flow.actions


def test_a_network_that_fits_one_flow_stays_as_it_is() -> None:
    """An upgrade would write the broadcast of every network anew."""
    program = web(*crowded(range(100, 100 + flood.MOST_ACTIONS - 3)))
    assert program.groups == ()
    assert broadcast(program) == tuple(Output(p) for p in (2, 3, 4, *range(100, 100 + flood.MOST_ACTIONS - 3)))
    for flow in program.flows:
        codec.encode_flow(flow)


@pytest.mark.parametrize("count", [flood.MOST_ACTIONS - 2, 5000, 20_000])
def test_all_ports_but_the_one_it_came_in_by(count: int) -> None:
    """The controller would end; or some containers never hear ARP, DHCP or discovery of their neighbours."""
    of, ports = crowded(range(100, 100 + count))
    program = web(of, ports)
    assert 0 < len(program.groups) <= 64
    for flow in program.flows:
        codec.encode_flow(flow)
    for group in program.groups:
        codec.encode_group(group)

    switch = FakeSwitch()
    context = Context(of, world.DPID, ports)
    rest = [compile_owner(context, owner) for owner in (("switch", ""), ("endpoint", "w1"))]
    switch.load(
        [f for p in (program, *rest) for f in p.flows], [g for p in (program, *rest) for g in p.groups]
    )
    sent = switch.send(2, udp(2, W1, world.ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST)).sent
    assert sorted(s.port for s in sent) == [3, 4, *range(100, 100 + count)]


def test_a_container_that_starts_changes_one_group() -> None:
    """Each start would write tens of thousands of outputs, and the next ones wait for it."""
    numbers = list(range(100, 6000))
    before, after = (web(*crowded(some)) for some in (numbers, [*numbers[:3000], *numbers[3001:]]))
    assert broadcast(before) == broadcast(after)
    changed = set(before.groups) ^ set(after.groups)
    assert len(changed) == 2
    assert len({group.id for group in changed}) == 1


def test_the_numbers_are_nobody_elses() -> None:
    """Broadcasts would go to a service's providers, or to another switch."""
    context = crowded(range(100, 5100))
    ids = {a.group_id for a in broadcast(web(*context)) if isinstance(a, GroupAction)}
    assert ids == {g.id for g in web(*context).groups}
    assert not any(map(is_way, ids))
    highest_port = (1 << 22) - 1 << 8 | 255
    assert all(number > highest_port and number & ~(1 << 31) > highest_port for number in ids)

    other = cast(Network, replace(context[0].networks[WEB[1]], number=LIMITS["network"]))
    (last, *_) = sorted((g.id for g in flood._groups(other, [65535])), reverse=True)
    assert last <= 0xFFFFFF00, "OFPG_MAX"
