"""A crowd of new connections from one client, as frames: each source port a connection, and none ever answered.

    crowd(client, "tcp", "100.1.1.1", 8080, range(1024, 46024))
    met(lab, "100.1.1.1")   # provider's address → how many connections conntrack has translated to it
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

from tests.kit import frames
from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for

AT_ONCE = 200  # frames; the switch's socket takes a few more

SYN = 2
TCP, UDP = 6, 17
_MET = re.compile(r"orig=\(src=[^,]+,dst=([^,]+),.*reply=\(src=([^,]+),")


def crowd(client: Host, kind: str, vip: str, port: int, source_ports: Sequence[int]) -> None:
    """The first packet of a connection from each of these ports; conntrack has them all when this returns."""
    at_first = tracked(client)
    with client.open("raw") as wire:
        for at in range(0, len(source_ports), AT_ONCE):
            sent = source_ports[at : at + AT_ONCE]
            for source in sent:
                wire.send(first_packet(client, kind, vip, port, source))
            due = at_first + at + len(sent)
            wait_for(lambda due=due: tracked(client) >= due, f"{due} connections in conntrack")  # type: ignore[misc]


def tracked(client: Host) -> int:
    """How many connections the client's switch tracks."""
    return int(client.instance.appctl("dpctl/ct-get-nconns"))


def first_packet(client: Host, kind: str, vip: str, port: int, source: int) -> bytes:
    """A SYN, or a datagram, in its frame."""
    to = ip_address(vip)
    own = client.address(to.version)
    number, at = (UDP, 6) if kind == "udp" else (TCP, 16)  # and where its checksum is
    payload = struct.pack("!HHHH", source, port, 8, 0)
    if kind != "udp":
        payload = struct.pack("!HHIIBBHHH", source, port, 1, 0, 5 << 4, SYN, 8192, 0, 0)
    pseudo = ip_address(own).packed + to.packed + struct.pack("!II", len(payload), number)
    payload = payload[:at] + frames.checksum(pseudo + payload) + payload[at + 2 :]
    return (frames.ip if to.version == 4 else frames.ipv6)(client.mac, own, vip, number, payload)


def met(lab: Lab, vip: str) -> Counter[str]:
    """How many connections to the VIP each provider has, by its address: what conntrack says."""
    found = (_MET.search(line) for line in lab.instance.conntrack())
    return Counter(f[2] for f in found if f and f[1] == vip)
