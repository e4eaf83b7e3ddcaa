"""Frames of a hostile container: ``python -m tests.fuzz.frames --interface eth0 --stage JSON --seconds 600``.

They leave by a raw socket, at a bounded rate, from the network namespace in which the command runs. What a container
may send is right in most parts and then changed: ARP, neighbour discovery and router advertisements, also in fragments,
nested VLAN tags, source routes and other options, chains of IPv6 headers, headers cut off, forged senders, and TCP,
UDP, SCTP and ICMP to virtual addresses, gateways and nobody. Everything follows from ``--seed``.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import mutate
from tests.kit import frames

LONGEST = 1500 + 14
RATE = 300.0  # a second
BURST = 0.25  # s that may be made up for, where the machine had no time
PROTOCOLS = (0, 1, 2, 4, 6, 6, 17, 17, 41, 47, 50, 51, 58, 132, 253, 255)
PORTS = (0, 1, 53, 67, 80, 80, 546, 4789, 6653, 8080, 9999, 65535)
EVERYBODY = ("0.0.0.0", "255.255.255.255", "127.0.0.1", "169.254.0.1", "169.254.169.254", "224.0.0.1", "249.0.0.1",
             "250.0.0.1", "251.0.0.1", "8.8.8.8", "192.0.2.1")  # fmt: skip
EVERYBODY6 = ("::", "::1", "ff02::1", "ff02::2", "fe80::1", "100::1:0:1", "100::6", "2001:db8::1", "::ffff:10.1.1.1")
MACS = (frames.BROADCAST, frames.ROUTER, "0e:4e:43:00:00:02", "00:00:00:00:00:00", "33:33:00:00:00:01",
        "01:80:c2:00:00:0e")  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """Who sends, and whom it knows: the first of each are its gateway's."""

    mac: str = "02:42:0a:01:01:01"
    ip: str = "10.1.1.1"
    ip6: str = "fd00:1::1"
    others: tuple[str, ...] = ("10.1.1.254", "10.1.1.2", "10.1.1.99", "100.1.1.1", "100.1.1.77", "20.1.1.1")
    others6: tuple[str, ...] = ("fd00:1::fe", "fd00:1::2", "fd00:1::99", "fd00:100::1", "fd00:2::1")
    macs: tuple[str, ...] = ("02:42:0a:01:01:02",)


def _target(rng: random.Random, stage: Stage) -> str:
    return rng.choice(stage.others if rng.random() < 0.85 else EVERYBODY)


def _target6(rng: random.Random, stage: Stage) -> str:
    return rng.choice(stage.others6 if rng.random() < 0.85 else EVERYBODY6)


def _sender(rng: random.Random, stage: Stage) -> str:
    return stage.ip if rng.random() < 0.8 else rng.choice((*stage.others, *EVERYBODY))


def _sender6(rng: random.Random, stage: Stage) -> str:
    own = (stage.ip6, frames.link_local(stage.mac))
    return rng.choice(own) if rng.random() < 0.8 else rng.choice((*stage.others6, *EVERYBODY6))


def _mac(rng: random.Random, stage: Stage) -> str:
    return stage.mac if rng.random() < 0.85 else rng.choice((*stage.macs, *MACS))


def _to(rng: random.Random, stage: Stage) -> str:
    return frames.ROUTER if rng.random() < 0.7 else rng.choice((*stage.macs, *MACS))


def _arp(rng: random.Random, stage: Stage) -> bytes:
    source = _mac(rng, stage) if rng.random() < 0.2 else ""
    ends = _sender(rng, stage), _target(rng, stage)
    return frames.arp_request(_mac(rng, stage), *ends, source=source, operation=rng.choice((1, 1, 2, 0, 3, 65535)))


def _segment(rng: random.Random) -> bytes:
    flags = rng.choice((0x02, 0x10, 0x18, 0x04, 0x14, 0x11, 0x12, 0x00, 0xFF, 0x29))
    data, offset = rng.randbytes(rng.choice((0, 0, 1, 100))), rng.choice((5, 5, 5, 5, 0, 4, 6, 15))
    ports = rng.randrange(1024, 65536), rng.choice(PORTS)
    numbers = rng.randrange(1 << 32), rng.randrange(1 << 32)
    return struct.pack("!HHIIBBHHH", *ports, *numbers, offset << 4, flags, rng.choice((0, 8192)), 0, 0) + data


def _datagram(rng: random.Random) -> bytes:
    data = rng.randbytes(rng.choice((0, 4, 500)))
    size = rng.choice((8 + len(data), 8 + len(data), 0, 7, 65535))
    return struct.pack("!HHHH", rng.randrange(1024, 65536), rng.choice(PORTS), size, 0) + data


def _echo(rng: random.Random, kinds: tuple[int, ...]) -> bytes:
    return struct.pack("!BBHHH", rng.choice(kinds), rng.choice((0, 0, 1, 3, 4, 255)), 0, 1, 1) + rng.randbytes(
        rng.choice((0, 8, 60))
    )


def _sctp(rng: random.Random) -> bytes:
    return struct.pack("!HHII", 1024, rng.choice(PORTS), rng.choice((0, 1)), 0) + bytes(
        (rng.choice((1, 3, 14)), 0, 0, 4)
    )


def _payload(rng: random.Random, stage: Stage, version: int) -> tuple[int, bytes]:
    protocol = rng.choice(PROTOCOLS)
    if protocol == 6:
        return protocol, _segment(rng)
    if protocol == 17:
        return protocol, _datagram(rng)
    if protocol == 132:
        return protocol, _sctp(rng)
    if protocol in (1, 58):
        return protocol, _icmp(rng, stage, version, protocol)
    return protocol, rng.randbytes(rng.choice((0, 1, 8, 40)))


def _icmp(rng: random.Random, stage: Stage, version: int, protocol: int) -> bytes:
    kinds = (
        (0, 3, 5, 8, 8, 8, 9, 10, 11, 12, 13, 17) if protocol == 1 else (1, 2, 3, 4, 128, 128, 129, 130, 131, 137, 143)
    )
    head = _echo(rng, kinds)[:8]
    if rng.random() < 0.5:
        return head + _echo(rng, kinds)
    # an error, about a packet that somebody else has sent
    about = frames.udp(stage.mac, _target(rng, stage), _sender(rng, stage), 53)[14:42]
    if version == 6:
        about = frames.udp6(stage.mac, _target6(rng, stage), _sender6(rng, stage), 53)[14:]
    return head + mutate.bent(rng, about, 600)


def _ip(rng: random.Random, stage: Stage) -> bytes:
    protocol, payload = _payload(rng, stage, 4)
    fragment = rng.choice((0, 0, 0, 0, 0x4000, 0x2000, 0x2001, 0x0001, 0x1FFF, 0x3FFF, 0x8000))
    made = frames.ip(
        _mac(rng, stage),
        _sender(rng, stage),
        _target(rng, stage),
        protocol,
        payload,
        to=_to(rng, stage),
        fragment=fragment,
    )
    if rng.random() < 0.2:
        hops = [_target(rng, stage) for _ in range(rng.choice((1, 2, 9)))]
        return frames.source_routed(made, *hops, loose=rng.random() < 0.5)
    return _ttl(rng, made)


def _ttl(rng: random.Random, frame: bytes) -> bytes:
    """With another time to live, and the checksum that goes with it."""
    if rng.random() < 0.6:
        return frame
    head = frame[14:22] + bytes((rng.choice((0, 1, 1, 2, 255)),)) + frame[23:24] + b"\0\0" + frame[26:34]
    return frame[:14] + head[:10] + frames.checksum(head) + head[12:] + frame[34:]


def _ip6(rng: random.Random, stage: Stage) -> bytes:
    protocol, payload = _payload(rng, stage, 6)
    made = frames.ipv6(
        _mac(rng, stage), _sender6(rng, stage), _target6(rng, stage), protocol, payload.ljust(4, b"\0"),
        to=_to(rng, stage), hops=rng.choice((64, 64, 64, 0, 1, 255)),
    )  # fmt: skip
    if rng.random() < 0.4:
        made = frames.extended(made, *(_header(rng) for _ in range(rng.choice((1, 2, 5, 20)))))
    if rng.random() < 0.15:
        return rng.choice(_fragments(rng, made))
    return made


def _header(rng: random.Random) -> tuple[int, bytes]:
    kind = rng.choice((frames.HOP_BY_HOP, frames.DESTINATION, frames.ROUTING, frames.FRAGMENT, 51, 135, 60))
    if kind == frames.FRAGMENT:
        return kind, frames.fragment_header(8 * rng.choice((0, 0, 1, 100)), rng.randrange(9), more=rng.random() < 0.5)
    if kind == frames.ROUTING:
        return kind, bytes((2, rng.choice((0, 2, 4)), 1, 0, 0, 0, 0)) + bytes(16)
    if kind == 51:
        return kind, bytes((rng.choice((0, 1, 4, 255)), 0, 0)) + bytes(8)
    return kind, frames.options(rng.choice((8, 8, 16, 80)))


def _fragments(rng: random.Random, frame: bytes) -> list[bytes]:
    size = len(frame) - 54
    at = sorted({8 * rng.randrange(1, max(2, size // 8)) for _ in range(rng.choice((1, 2, 3)))})
    return frames.fragments(frame, *(n for n in at if n < size), number=rng.randrange(1 << 32))


def _neighbour(rng: random.Random, stage: Stage) -> bytes:
    kind, target = rng.choice((134, 134, 135, 135, 136, 136, 137)), _target6(rng, stage)
    to = rng.choice((frames.ALL_NODES, frames.solicited_node(target), (target, _to(rng, stage))))
    made = frames.neighbour(
        _mac(rng, stage), _sender6(rng, stage), target, kind, option=_mac(rng, stage),
    to=to,
        flags=rng.choice((0, 0x20000000, 0xE0000000)),
    )  # fmt: skip
    if rng.random() < 0.3:
        made = frames.extended(made, *(_header(rng) for _ in range(rng.choice((1, 2)))))
    if rng.random() < 0.3:
        return rng.choice(_fragments(rng, made))
    return made


def _of_others(rng: random.Random, stage: Stage) -> bytes:
    """What a container has no business to send: LLDP, BPDUs, other types, nothing at all."""
    kind = rng.choice(
        (b"\x88\xcc", b"\x00\x26", b"\x88\x47", b"\x88\x64", b"\x89\x02", b"\xff\xff", b"\x08\x00", b"\x86\xdd")
    )
    head = bytes.fromhex((_to(rng, stage) + _mac(rng, stage)).replace(":", ""))
    return head + kind + rng.randbytes(rng.choice((0, 1, 20, 46, 1000)))


KINDS: tuple[Callable[[random.Random, Stage], bytes], ...] = (
    _arp, _arp, _ip, _ip, _ip, _ip, _ip6, _ip6, _ip6, _neighbour, _neighbour, _of_others
)  # fmt: skip


def frame(rng: random.Random, stage: Stage) -> tuple[str, bytes]:
    """What it is, and its bytes."""
    make = rng.choice(KINDS)
    made = make(rng, stage)
    if rng.random() < 0.1:
        tags = [(rng.choice((0x8100, 0x88A8, 0x9100)), rng.randrange(1 << 16)) for _ in range(rng.choice((1, 2, 3)))]
        made = frames.tagged(made, *tags)
    if rng.random() < 0.3:
        # not its addresses: most of what is changed there is dropped at the port
        at = rng.choice((12, 14, 34, 54))
        made = made[:at] + mutate.bent(rng, made[at:], LONGEST)
    return make.__name__.lstrip("_"), made[:LONGEST]


def run(count: int, seed: int, stage: Stage = Stage()) -> Counter[str]:
    """So many frames, sent nowhere."""
    rng = random.Random(seed)
    return Counter(frame(rng, stage)[0] for _ in range(count))


def send(interface: str, stage: Stage, seconds: float, seed: int, rate: float = RATE) -> Counter[str]:
    """For so long, out of an interface."""
    rng, sent = random.Random(seed), Counter[str]()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((interface, 0))
        begin = due = time.monotonic()
        while (now := time.monotonic()) < begin + seconds:
            if now < due:
                time.sleep(min(due - now, 0.1))
                continue
            due = max(due + 1 / rate, now - BURST)
            kind, raw = frame(rng, stage)
            try:
                out.send(raw)
                sent[kind] += 1
            except OSError as error:
                if error.errno not in _NOT_SENT:
                    raise
                sent["not sent"] += 1
    return sent


_NOT_SENT = (errno.EINVAL, errno.EMSGSIZE, errno.ENOBUFS, errno.ENETDOWN)  # no whole header, or no room


def main() -> int:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz.frames", description=__doc__)
    options.add_argument("--interface", default="eth0")
    options.add_argument("--stage", default="{}", help="the fields of Stage, in JSON")
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--rate", type=float, default=RATE, help="frames a second")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    wanted = options.parse_args()
    print(f"seed {wanted.seed}", flush=True)
    stage = Stage(**{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(wanted.stage).items()})
    began = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        sent = send(wanted.interface, stage, wanted.seconds, wanted.seed, wanted.rate)
    print(f"{sent.total()} in {time.monotonic() - began:.0f} s", flush=True)
    print(json.dumps(dict(sent.most_common())), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
