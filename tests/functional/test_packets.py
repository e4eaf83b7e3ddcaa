"""The packet table on Open vSwitch: what `ofproto/trace` says must be what the fake switch does."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from ryu_apps.pipeline.fields import ETH_ARP, ETH_IP, ETH_IPV6, FIELDS, ICMP, ICMPV6, TCP, TCP_SYN, UDP
from ryu_apps.pipeline.values import CONTROLLER
from tests.kit import ovs, packets, packets6
from tests.kit.packets import Case
from tests.kit.wire import Wire
from tests.kit.world import PORTS, dual, model, model_of, program
from topology.model import Service, ServicePort
from topology.snapshot import Model

NAMES = {
    "ipv4_src": "nw_src", "ipv4_dst": "nw_dst", "ip_ttl": "nw_ttl", "eth_src": "dl_src", "eth_dst": "dl_dst",
    "tcp_src": "tp_src", "udp_src": "udp_src", "tcp_dst": "tp_dst", "udp_dst": "udp_dst", "icmpv4_type": "icmp_type",
    "icmpv4_code": "icmp_code", "arp_spa": "arp_spa", "arp_tpa": "arp_tpa", "arp_sha": "arp_sha", "arp_tha": "arp_tha",
    "arp_op": "arp_op", "ipv6_src": "ipv6_src", "ipv6_dst": "ipv6_dst", "icmpv6_type": "icmpv6_type",
    "icmpv6_code": "icmpv6_code", "nd_target": "nd_target", "nd_sll": "nd_sll", "nd_tll": "nd_tll",
    "tcp_flags": "tcp_flags",
}  # fmt: skip
PROTOCOLS = {
    ETH_IP: {TCP: "tcp", UDP: "udp", ICMP: "icmp", 0: "ip"},
    ETH_IPV6: {TCP: "tcp6", UDP: "udp6", ICMPV6: "icmp6"},
}
WORDS = {ETH_IP: "ip", ETH_IPV6: "ipv6"}
_TO = r"nat\(dst=\[?([\d.]+|[0-9a-f:]+)[\]:)]"


def text(name: str, value: int) -> str:
    """A field's value as ovs-ofctl writes it."""
    if FIELDS[name].bits == 48:
        return value.to_bytes(6, "big").hex(":")
    if FIELDS[name].bits == 128:
        return str(IPv6Address(value))
    if FIELDS[name].bits == 32:
        return str(IPv4Address(value))
    return str(value)


def spec(case: Case) -> str:
    """The packet as ofproto/trace wants it."""
    packet = dict(case.packet)
    eth_type = packet.pop("eth_type")
    kind = "arp" if eth_type == ETH_ARP else kind_of(eth_type, packet.pop("ip_proto"))
    if kind in ("tcp", "tcp6"):
        packet.setdefault("tcp_flags", TCP_SYN)
    fields = [f"{NAMES[k]}={text(k, v)}" for k, v in packet.items()]
    return ",".join([f"in_port={case.in_port}", kind, *fields])


def kind_of(eth_type: int, protocol: int) -> str:
    """What stands for a protocol in a packet's text."""
    return PROTOCOLS[eth_type].get(protocol, f"{WORDS[eth_type]},nw_proto={protocol}")


def name(case: Case) -> str:
    """Of the test."""
    return f"IPv6: {case.name}" if case in packets6.CASES else case.name


@pytest.fixture(scope="module")
def bridge() -> Iterator[str]:
    with ovs.bridge("pk") as name:
        ovs.add_ports(name, list(PORTS.values()))
        load(name, model_of(dual()))
        yield name


def load(bridge: str, of: Model) -> None:
    """Have what this model wants, and nothing else."""
    for what in ("flows", "groups", "meters"):
        ovs.MACHINE.ofctl(f"del-{what}", bridge)
    with contextlib.closing(Wire(bridge)) as wire:
        wire.load(program(of))


@pytest.mark.parametrize("case", packets.CASES + packets6.CASES, ids=name)
def test_packet(bridge: str, case: Case) -> None:
    """If it fails: Open vSwitch does otherwise than the fake switch, whose tests then show nothing."""
    trace = ovs.run("ovs-appctl", "-t", "ovs-vswitchd", "ofproto/trace", bridge, spec(case), "--ct-next", "trk,new")
    zones = [int(z) for z in re.findall(r"^ +ct\(.*?zone=(\d+)", trace, re.M)]
    commits = [int(ip_address(a)) for a in re.findall(r"^ +ct\(commit.*" + _TO, trace, re.M)]
    for group in re.findall(r"^ +group:(\d+)", trace, re.M):
        # the trace ends where the switch hashes the packet: what it may choose from is the group's
        buckets = groups_of(bridge)[int(group)]
        zones.append(buckets[0][0])
        commits += [to for _, to in buckets]
    assert tuple(zones) == case.zones
    if case.to:
        assert sorted(set(commits)) == sorted(case.to)
        return
    assert not commits
    assert ports(trace, case.in_port) == case.ports
    final = trace[trace.rindex("Final flow:") :]
    if case.ports and case.ports != (case.in_port,):
        for name, value in case.fields.items():
            shown = NAMES[name].replace("icmpv6", "icmp")  # as it is not read
            assert f"{shown}={text(name, value)}" in final


@pytest.mark.parametrize("affinity", [0, 60], ids=["spread", "affinity"])
def test_a_switch_takes_sctp(affinity: int) -> None:
    """If it fails: a newer Open vSwitch, or a kernel, refuses a service with SCTP, or does something else with it."""
    port = ServicePort(3868, 3868, "SCTP", 77)
    everything = [
        replace(o, ports=(port,), affinity=affinity) if isinstance(o, Service) and o.tenant == "default" else o
        for o in dual()
    ]
    with ovs.bridge("sc") as name, contextlib.closing(Wire(name)) as wire:
        wire.load(program(model_of(everything), sctp=True))
        packet = "in_port=1,sctp,dl_src=02:00:00:00:00:01,nw_src=20.1.1.1,nw_dst=100.1.1.1,nw_ttl=64,sctp_dst=3868"
        trace = ovs.run("ovs-appctl", "-t", "ovs-vswitchd", "ofproto/trace", name, packet, "--ct-next", "trk,new")
    assert f"group:{port.number << 8}" in trace


def test_ipv6_costs_ipv4_nothing(bridge: str) -> None:
    """Who has IPv6 as well would have a slower IPv4: more of each packet to look at, or more passes."""
    both = [looked_at(bridge, case) for case in packets.CASES]
    load(bridge, model())
    for case, beside in zip(packets.CASES, both, strict=True):
        assert beside == looked_at(bridge, case), case.name


def looked_at(bridge: str, case: Case) -> list[str]:
    """What the datapath's flows match, a line a pass."""
    trace = ovs.run("ovs-appctl", "-t", "ovs-vswitchd", "ofproto/trace", bridge, spec(case), "--ct-next", "trk,new")
    return re.findall(r"^Megaflow: recirc_id=\w+,(.*)$", trace, re.M)


def groups_of(bridge: str) -> dict[int, list[tuple[int, int]]]:
    """Each group's buckets as (zone, translated destination)."""
    found = {}
    for line in ovs.run("ovs-ofctl", "-O", "OpenFlow13", "dump-groups", bridge).splitlines():
        if number := re.search(r"group_id=(\d+)", line):
            buckets = re.findall(r"zone=(\d+)," + _TO, line)
            found[int(number[1])] = [(int(zone), int(ip_address(to))) for zone, to in buckets]
    return found


def ports(trace: str, in_port: int) -> tuple[int, ...]:
    """The OpenFlow ports by which a traced packet leaves."""
    out = [int(p) for p in re.findall(r"^ +(?:-> output port is |output:)(\d+)$", trace, re.M)]
    out += [in_port] * len(re.findall(r"^ +IN_PORT$", trace, re.M))
    out += [CONTROLLER] * len(re.findall(r"^ +CONTROLLER:", trace, re.M))
    return tuple(p for p in out if p != in_port or "IN_PORT" in trace)
