"""Messages of a switch that are nearly right, by the million: ``python -m tests.fuzz.openflow --count 1000000``.

The parser has to read or to refuse each, in little time and memory: a limit on the process's memory is set first.
With ``--connect HOST:PORT --seconds 600`` they go to a running controller instead, in as many sessions as it takes.
Everything follows from ``--seed``, which is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

from ryu_apps.openflow import inbound, messages
from ryu_apps.pipeline.tables import FlowKind
from tests.fuzz.mutate import LARGEST, cut, flipped, inserted, repeated
from tests.kit.rawswitch import flow_stat, message, multipart, packet_in, port, port_status

MEMORY = 512 << 20
SLOWEST = 1.0  # s for one message of 64 KB, on a machine with much else to do
IN_PORT = bytes.fromhex("80000004 00000001")
REGISTERS = bytes.fromhex("00010004 00000007 00010204 00000009")
MASKED = bytes.fromhex("0001d308 00000001 00000001")
UNKNOWN = bytes.fromhex("7fff0003 010203")

GROUP = bytes.fromhex("0028 01 00 00000100") + bytes.fromhex("0020 0001 ffffffff ffffffff 00000000") + bytes(16)
GROUP_STAT = struct.pack("!H2xIII", 56, 0x100, 1, 0) + bytes(24) + bytes(16)
METER = struct.pack("!HHI", 24, 13, 1) + struct.pack("!HHIII", 1, 16, 100, 0, 0)
DESCRIPTION = struct.pack("!256s256s256s32s256s", b"Nicira", b"Open vSwitch", b"3.1.0", b"None", b"\xff\n\x1b")
FEATURES = struct.pack("!QIBB2xII", 0x5EED, 0, 254, 0, 0x4F, 0)
HELLO_ELEMENTS = bytes.fromhex("0001 0008 00000010 0002 0005 00 000000")

FEATURES_OF_FLOWS = tuple(FlowKind)


def _ip4(protocol: int, payload: bytes, source: str = "0a010101", target: str = "64010101") -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0, 64, protocol, 0) + bytes.fromhex(source + target)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return _ETHERNET + b"\x08\x00" + head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + payload


def _ip6(protocol: int, payload: bytes) -> bytes:
    ends = bytes.fromhex("fd00000100000000000000000a010101 fd00010000000000000000006401 0101")
    return _ETHERNET + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload


_ETHERNET = bytes.fromhex("020000000002 020000000001")
_TCP = struct.pack("!HHIIBBHHH", 5000, 80, 1, 2, 5 << 4, 0x10, 1000, 0, 0)
_UDP = struct.pack("!HHHH", 5000, 53, 12, 0) + b"data"
_OPTIONS = bytes.fromhex("3c00 000000000000 2c00 000000000000 0600 0001 00000001")  # and a fragment's header
_AUTHENTICATION = bytes.fromhex("0604 0000 00000001 00000000") + bytes(12)
_PING, _PING6 = bytes.fromhex("0800000000010001"), bytes.fromhex("8000000000010001")
_ARP = "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a010105 000000000000 0a010109"
_LLDP = "0180c200000e 0e4e43000002 88cc 0209 07 0000000000000001 0405 07 00000001 0602 0004 0000"
FRAMES = [
    _ip4(6, _TCP), _ip4(6, _TCP + b"x"), _ip4(17, _UDP), _ip4(132, bytes(12)), _ip4(1, _PING),
    _ip6(6, _TCP), _ip6(17, _UDP), _ip6(0, _OPTIONS + _TCP), _ip6(51, _AUTHENTICATION + _TCP), _ip6(58, _PING6),
    bytes.fromhex(_ARP), bytes.fromhex(_LLDP) + bytes(40),
]  # fmt: skip


def frame(rng: random.Random) -> bytes:
    """What a host sends, or nearly that."""
    raw = rng.choice(FRAMES)
    for _ in range(rng.choice((0, 1, 1, 2))):
        raw = rng.choice((cut, flipped, _number, inserted, repeated))(rng, raw)
    return raw[: LARGEST // 2]


def _from_a_flow(rng: random.Random) -> bytes:
    """A frame that a flow of ours has sent, by each of our features."""
    fields = struct.pack("!HBBI", 0x8000, 0, 4, rng.choice((1, 1, 2, 0, 0xFFFFFFFE, rng.randrange(1 << 32))))
    for number in range(3):
        fields += struct.pack("!HBBI", 1, number << 1, 4, rng.choice((0, 1, 1, 2, 3, rng.randrange(1 << 32))))
    return packet_in(fields, frame(rng), 0x4E << 56 | rng.choice(FEATURES_OF_FLOWS) << 48)


VALID = {
    "hello": message(0, 1),
    "hello with versions": message(0, 1, HELLO_ELEMENTS),
    "error": message(1, 2, bytes.fromhex("00010008") + bytes(64)),
    "experimenter's error": message(1, 2, bytes.fromhex("ffff08fc 4f4e4600")),
    "echo request": message(2, 3, b"are you there"),
    "echo reply": message(3, 3, b"are you there"),
    "experimenter": message(4, 4, bytes.fromhex("00002320 00000001") + bytes(16)),
    "bundle": message(4, 4, bytes.fromhex("4f4e4600 000008fc 00000001 0001 0003")),
    "features": message(6, 5, FEATURES),
    "configuration": message(8, 6, bytes(4)),
    "packet-in": packet_in(IN_PORT, bytes(60)),
    "packet-in with registers": packet_in(REGISTERS + IN_PORT + MASKED + UNKNOWN, bytes(1500)),
    "flow removed": message(11, 0, bytes(48)),
    "port status": port_status(1),
    "description": multipart(0, DESCRIPTION),
    "flows": multipart(1, flow_stat() * 20),
    "many flows": multipart(1, flow_stat() * 1100, more=True),
    "groups' counts": multipart(6, GROUP_STAT * 5),
    "groups": multipart(7, GROUP * 9),
    "meters": multipart(10, METER * 3),
    "ports": multipart(13, port(1) + port(2)),
    "many ports": multipart(13, port(1) * 1000, more=True),
    "an experimenter's multipart": multipart(0xFFFF, bytes(16)),
    "what nobody asks for": multipart(4, bytes(112)),
    "barrier": message(21, 7),
    "queues": message(23, 7, bytes(8)),
    "role": message(25, 7, bytes(16)),
    "asynchronous": message(27, 7, bytes(24)),
}
_ALL = list(VALID.values())

NAMED = [
    packet_in(b"", bytes(60)),  # without in_port
    multipart(1, bytes(64)),  # an entry of length 0
    multipart(3, bytes(64)),
    multipart(7, GROUP[:8].replace(b"\x28", b"\x18") + bytes(16)),  # a bucket of length 0
    multipart(13, port(1)[:63]),  # a reply that is cut short
    multipart(1, b"", more=True),  # more follows, for ever
    multipart(1, flow_stat() * 1100, more=True),
    message(0, 1, bytes.fromhex("00010000")),  # an element of length 0
    message(6, 5),
    struct.pack("!BBHI", 4, 10, 0, 0),  # a message of length 0
    struct.pack("!BBHI", 4, 10, LARGEST, 0),  # one that is never finished
]


def _sized(raw: bytes) -> bytes:
    """With the length that it has, if a message can have it."""
    raw = raw[:LARGEST]
    return raw[:2] + struct.pack("!H", len(raw)) + raw[4:]


def _number(rng: random.Random, raw: bytes) -> bytes:
    """Two bytes anywhere, a length often enough, become one of the numbers that are trouble."""
    at = 2 * rng.randrange(max(1, min(len(raw), 200) // 2))
    number = rng.choice((0, 1, 3, 4, 7, 8, 0x7FFF, 0x8000, LARGEST, min(len(raw), LARGEST)))
    return raw[:at] + struct.pack("!H", number) + raw[at + 2 :]


def _spliced(rng: random.Random, raw: bytes) -> bytes:
    other = rng.choice(_ALL)
    return raw[: rng.randrange(len(raw) + 1)] + other[rng.randrange(len(other) + 1) :]


def _another_type(rng: random.Random, raw: bytes) -> bytes:
    return raw[:1] + bytes((rng.randrange(32),)) + raw[2:]


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    cut, flipped, flipped, _number, _number, inserted, repeated, _spliced, _another_type
)  # fmt: skip


def mutated(rng: random.Random) -> bytes:
    """A message that is right in most parts; its length is mostly that which it says."""
    if rng.random() < 0.05:
        return rng.choice(NAMED)
    if rng.random() < 0.2:
        return _from_a_flow(rng)
    raw = rng.choice(_ALL)
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        raw = rng.choice(MUTATIONS)(rng, raw)[: 2 * LARGEST]
    return _sized(raw) if rng.random() < 0.8 and len(raw) >= 4 else raw


def read(raw: bytes) -> str:
    """Have one read as the controller does; what became of it."""
    try:
        parsed = inbound.parse(raw)
    except inbound.BrokenMessageError as broken:
        assert "\n" not in str(broken), broken
        return "refused"
    if isinstance(parsed, inbound.Multipart) and parsed.type in DECODERS:
        assert len(list(DECODERS[parsed.type](parsed.body))) == parsed.entries
    if isinstance(parsed, inbound.PacketIn):
        assert 0 <= parsed.match["in_port"] <= 0xFFFFFFFF
    return type(parsed).__name__


DECODERS: dict[int, Callable[[bytes], list[object]]] = {
    messages.OFPMP_FLOW: lambda body: [*messages.decode_flow_stats(body)],
    messages.OFPMP_GROUP: lambda body: [*messages.decode_group_stats(body)],
    messages.OFPMP_GROUP_DESC: lambda body: [*messages.decode_group_desc(body)],
    messages.OFPMP_METER_CONFIG: lambda body: [*messages.decode_meter_config(body)],
}


def framed(rng: random.Random, stream: bytes) -> Iterator[bytes]:
    """The messages of a stream that comes in pieces, up to the first wrong one."""
    framer = inbound.Framer()
    with contextlib.suppress(inbound.BrokenMessageError):
        at = 0
        while at < len(stream):
            size = rng.choice((1, 7, 1000, 65536))
            yield from framer.feed(stream[at : at + size])
            at += size


def run(count: int, seed: int) -> Counter[str]:
    """So many messages through the parser; how many of them became what."""
    rng, became = random.Random(seed), Counter[str]()
    while became.total() < count:
        some = [mutated(rng) for _ in range(16)]
        if rng.random() < 0.1:
            some += framed(rng, b"".join(some))
        for raw in some:
            began = time.process_time()
            became[read(raw)] += 1
            assert time.process_time() - began < SLOWEST, f"took too long: {raw[:100].hex()}"
    return became


def connect(host: str, port_number: int, seconds: float, seed: int) -> Counter[str]:
    """The same, to a controller that runs: how many sessions ended how."""
    rng, ended, until = random.Random(seed), Counter[str](), time.monotonic() + seconds
    while time.monotonic() < until:
        ended[_session(rng, host, port_number)] += 1
    return ended


def _session(rng: random.Random, host: str, port_number: int) -> str:
    try:
        with socket.create_connection((host, port_number), 10) as peer:
            peer.settimeout(5)
            dpid = rng.choice((0x5EED, 0x5EED, rng.randrange(1, 50)))
            begin = [VALID["hello"], message(6, 1, struct.pack("!Q", dpid) + FEATURES[8:]), VALID["description"]]
            begin.append(VALID["ports"])
            for raw in begin[: rng.choice((0, 1, 2, 4, 4, 4, 4))]:
                peer.sendall(raw)
            for _ in range(rng.choice((1, 5, 200))):
                peer.sendall(mutated(rng))
                _read_some(peer)
            return "closed by us"
    except TimeoutError:
        return "timeout"
    except OSError:
        return "closed by the controller"


def _read_some(peer: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        if not peer.recv(65536, socket.MSG_DONTWAIT):
            raise ConnectionResetError


def main() -> int:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz.openflow", description=__doc__)
    options.add_argument("--count", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options.add_argument("--connect", metavar="HOST:PORT")
    options.add_argument("--seconds", type=float, default=60)
    wanted = options.parse_args()
    print(f"seed {wanted.seed}", flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    began = time.monotonic()
    if wanted.connect:
        host, _, number = wanted.connect.rpartition(":")
        became = connect(host, int(number), wanted.seconds, wanted.seed)
    else:
        became = run(wanted.count, wanted.seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{became.total()} in {time.monotonic() - began:.0f} s, at most {peak} MB of memory:")
    for what, number_of in became.most_common():
        print(f"  {number_of:>9} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
