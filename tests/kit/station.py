"""The far end of a cable into a switch: frames out and in, as they are."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import IPv4Address

from tests.kit import ovs

REQUEST, REPLY = 1, 2
ALL = 0x0003  # ETH_P_ALL


def mac_of(number: int) -> bytes:
    """Everybody's own."""
    return bytes.fromhex("024d4e0000") + bytes([number])


def arp(sender: bytes, address: str, target: str, operation: int = REQUEST, to: bytes = bytes(6)) -> bytes:
    """A question for the target's MAC, or the answer to it."""
    body = struct.pack(
        "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation,
        sender, IPv4Address(address).packed, to, IPv4Address(target).packed,
    )  # fmt: skip
    return (b"\xff" * 6 if operation == REQUEST else to) + sender + b"\x08\x06" + body


def ip(source: bytes, to: bytes, address: str, target: str) -> bytes:
    """A packet without a load."""
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20, 0, 0, 64, 253, 0, IPv4Address(address).packed, IPv4Address(target).packed
    )
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return to + source + b"\x08\x00" + head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]


class Station:
    """The far end of a cable into the switch: sends frames as they are, hears what comes."""

    def __init__(self, bridge: str, number: int) -> None:
        self.port = f"{ovs.PREFIX}m{number}"
        self.mac = mac_of(number)
        end = f"{ovs.PREFIX}n{number}"
        ovs.run("ip", "link", "add", self.port, "type", "veth", "peer", "name", end)
        for name in (self.port, end):
            # without addresses of their own, the ends keep silent
            ovs.run("ip", "link", "set", name, "addrgenmode", "none", "up")
        ovs.MACHINE.vsctl("add-port", bridge, self.port)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
        self._socket.bind((end, ALL))

    def send(self, frame: bytes) -> None:
        """Put a frame on the cable."""
        self._socket.send(frame)

    def ask(self, address: str, target: str) -> None:
        """Ask for the target's MAC, once."""
        self.send(arp(self.mac, address, target))

    def until(self, wanted: Callable[[bytes], bool], what: str, timeout: float = 5) -> list[bytes]:
        """Every frame that comes, up to the wanted one."""
        heard: list[bytes] = []
        end = time.monotonic() + timeout
        while not heard or not wanted(heard[-1]):
            left = end - time.monotonic()
            assert left > 0, f"{self.port} waited {timeout} s for {what}; it heard {heard}"
            if select.select([self._socket], [], [], left)[0]:
                frame, (_, _, kind, _, _) = self._socket.recvfrom(2048)
                if kind != socket.PACKET_OUTGOING:
                    heard.append(frame)
        return heard

    def answer(self, target: str) -> bytes:
        """The MAC that the switch says an address has."""

        def wanted(frame: bytes) -> bool:
            reply = frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2"
            return reply and frame[28:32] == IPv4Address(target).packed and frame[:6] == self.mac

        return self.until(wanted, f"the answer where {target} is")[-1][22:28]

    def close(self) -> None:
        """Unplug it."""
        self._socket.close()
        ovs.run("ip", "link", "delete", self.port)
