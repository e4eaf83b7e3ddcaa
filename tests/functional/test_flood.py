"""Broadcast in a network with more ports than a flow can name, as Open vSwitch carries it out."""

from __future__ import annotations

import re

from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Program
from ryu_apps.pipeline.values import GroupAction
from tests.kit import ovs, world
from tests.kit.wire import Wire
from tests.unit.test_flood import WEB, broadcast, crowded


def test_all_ports_but_the_one_it_came_in_by() -> None:
    """Some containers would never hear a broadcast, or a container its own."""
    of, ports = crowded(range(100, 5100))
    context = Context(of, world.DPID, ports)
    parts = [compile_owner(context, owner) for owner in (("switch", ""), WEB, ("endpoint", "w1"))]
    there = sorted({*world.PORTS.values(), 100, 1023, 1024, 2048, 4999})
    with ovs.bridge("fl") as bridge:
        ovs.add_ports(bridge, there)
        wire = Wire(bridge)
        wire.load(Program(tuple(f for p in parts for f in p.flows), tuple(g for p in parts for g in p.groups)))
        wire.close()
        packet = f"in_port=2,udp,dl_src={world.mac_text(2)},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=10.1.1.1,nw_dst=10.1.1.255"
        said = ovs.run("ovs-appctl", "ofproto/trace", bridge, packet)
        numbers = ovs.run("ovs-appctl", "dpif/show")
    assert all(isinstance(action, GroupAction) for action in broadcast(parts[1]))
    section = numbers.split(f"{bridge}:")[1]
    by_datapath = {int(d): int(p) for p, d in re.findall(r"\S+ (\d+)/(\d+):", section)}
    found = re.findall(r"^Datapath actions: (.*)$", said, re.MULTILINE)
    assert sorted(by_datapath[int(d)] for d in found[-1].split(",")) == [3, 4, 100, 1023, 1024, 2048, 4999]
