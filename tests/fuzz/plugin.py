"""Calls of Docker's plugin protocol that are nearly right: ``python -m tests.fuzz.plugin --count 20000``.

With ``--connect PATH --seconds 600`` they go to a running agent instead. Each is answered by a JSON object, which holds
one line where the call is refused, and never with status 500; or its connection ends. Ids are this fuzzer's own.
Everything follows from ``--seed``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import re
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from netctl import reading
from netctl.agent.bridge import Bridge
from netctl.agent.docker_api import Docker
from netctl.agent.driver import Driver
from netctl.agent.errors import AgentError
from netctl.agent.ipam import Ipam
from netctl.agent.ovsdb import Ovsdb
from netctl.agent.ports import Ports
from netctl.agent.state import LocalNetwork, State
from netctl.agent.sync import Synchroniser
from netctl.agent.ways import Ways
from tests.fuzz import mutate
from tests.fuzz.command import Fault, Target, command, exchange

SLOWEST = 2.0  # s of the processor for one call
PATIENCE = 60.0  # s for an answer; an address waits 20 s for its network
THREADS = 3
ENOUGH = 5  # faults of a thread
HELD = 20  # half requests that a thread leaves open
LONGEST_LINE = 4096
NETWORK, OTHER, ENDPOINT, SECOND = "f0" * 32, "f1" * 32, "fe" * 32, "fd" * 32
IDS = (NETWORK, NETWORK, OTHER, ENDPOINT, SECOND)
NOBODY = "http://127.0.0.1:9"

RIGHT: Mapping[str, Mapping[str, Any]] = {
    "Plugin.Activate": {},
    "NetworkDriver.GetCapabilities": {},
    "NetworkDriver.CreateNetwork": {
        "NetworkID": OTHER, "Options": {"com.docker.network.generic": {"tenant": "fuzz", "network": "p0"},
        "com.docker.network.internal": True, "com.docker.network.enable_ipv6": False},
        "IPv4Data": [{"AddressSpace": "netctl-local", "Pool": "10.240.0.0/24", "Gateway": "10.240.0.1/24",
        "AuxAddresses": {"a": "10.240.0.9"}}], "IPv6Data": [{"Pool": "fd06::/64", "Gateway": "fd06::1/64"}]},
    "NetworkDriver.DeleteNetwork": {"NetworkID": OTHER},
    "NetworkDriver.CreateEndpoint": {
        "NetworkID": NETWORK, "EndpointID": ENDPOINT,
        "Interface": {"Address": "10.241.0.7/24", "AddressIPv6": "", "MacAddress": "02:42:0a:f1:00:07"},
        "Options": {}},
    "NetworkDriver.DeleteEndpoint": {"NetworkID": NETWORK, "EndpointID": ENDPOINT},
    "NetworkDriver.Join": {
        "NetworkID": NETWORK, "EndpointID": ENDPOINT, "SandboxKey": "/var/run/docker/netns/fe", "Options": {}},
    "NetworkDriver.Leave": {"NetworkID": NETWORK, "EndpointID": ENDPOINT},
    "NetworkDriver.EndpointOperInfo": {"NetworkID": NETWORK, "EndpointID": ENDPOINT},
    "NetworkDriver.AllocateNetwork": {"NetworkID": OTHER, "Options": {"a": "b"}},
    "NetworkDriver.DiscoverNew": {"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.1", "Self": True}},
    "NetworkDriver.ProgramExternalConnectivity": {
        "NetworkID": NETWORK, "EndpointID": ENDPOINT,
        "Options": {"com.docker.network.portmap": [{"Proto": 6, "Port": 80}]}},
    "IpamDriver.GetCapabilities": {},
    "IpamDriver.GetDefaultAddressSpaces": {},
    "IpamDriver.RequestPool": {
        "AddressSpace": "netctl-local", "Pool": "10.240.0.0/24", "SubPool": "10.240.0.0/25",
        "Options": {"tenant": "fuzz"}, "V6": False},
    "IpamDriver.ReleasePool": {"PoolID": "fuzz/10.240.0.0/24"},
    "IpamDriver.RequestAddress": {
        "PoolID": "fuzz/10.240.0.0/24", "Address": "10.240.0.1",
        "Options": {"RequestAddressType": "com.docker.network.gateway"}},
    "IpamDriver.ReleaseAddress": {"PoolID": "default/10.241.0.0/24", "Address": "10.241.0.7"},
}  # fmt: skip
"""A call of each kind, as Docker makes them."""

POOLS = (
    "fuzz/10.240.0.0/24", "-/10.240.0.0/24", "default/10.241.0.0/24", "-/255.255.255.255/32", "-/0.0.0.0/0",
    "x/10.240.0.0/24",
    "-/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "-/fd06::/64", "-/fe80::%eth0/64", "-/::/0",
    "fuzz/10.240.0.0/31", "/", "",
)  # fmt: skip
_BODY = b'{"Pool": "10.240.0.0/24"}'
_HEAD = b"POST /IpamDriver.RequestPool HTTP/1.1\r\nHost: x\r\n"
RAW = (
    _HEAD + b"Content-Length: 25\r\n\r\n" + _BODY, (_HEAD + b"Content-Length: 25\r\n\r\n" + _BODY) * 20,
    _HEAD + b"Content-Length: 26\r\n\r\n" + _BODY, _HEAD + b"Content-Length: 3\r\n\r\n" + _BODY,
    _HEAD + b"\r\n" + _BODY,
    _HEAD + b"Content-Length: -1\r\n\r\n" + _BODY, _HEAD + b"Content-Length: 99999999999\r\n\r\n" + _BODY,
    _HEAD + b"Content-Length: 1_0\r\n\r\n" + _BODY,
    _HEAD + b"Content-Length: 25\r\nContent-Length: 2\r\n\r\n" + _BODY,
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\n19\r\n" + _BODY + b"\r\n0\r\n\r\n",
    _HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /Plugin.Activate HTTP/1.1\r\n\r\n", b"HEAD /Plugin.Activate HTTP/1.1\r\n\r\n",
    b"POST /Plugin.Activate\r\n", b"\r\n\r\n", b"\x16\x03\x01\x00",
    b"POST /Plugin.Activate HTTP/1.0\r\n\r\n", b"POST /Plugin.Activate HTTP/9.1\r\n\r\n",
    b"POST /Plugin.Activate HTTP/1.\xb2\r\n\r\n",
    b"POST /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"POST /Plugin.Activate HTTP/1.1\r\n" + b"X: y\r\n" * 150 + b"\r\n",
    b"POST /Plugin.Activate HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", b"POST /\x1b[2J HTTP/1.1\r\n\r\n",
    b"POST * HTTP/1.1\r\n\r\n",
)  # fmt: skip
METHODS = (
    *RIGHT, *RIGHT, *RIGHT, "NetworkDriver.Nothing", "", "x" * 500, "NetworkDriver.Join/../x", "Plugin.Activate?x=y",
)  # fmt: skip

Call = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def call(rng: random.Random) -> tuple[str, bytes]:
    """A method and its request, which is right in most parts."""
    method = rng.choice(METHODS)
    body: Any = dict(RIGHT.get(method, rng.choice((*RIGHT.values(),))))
    for name in body:
        if name in ("NetworkID", "EndpointID") and rng.random() < 0.5:
            body[name] = rng.choice(IDS)
        elif name == "PoolID" and rng.random() < 0.5:
            body[name] = rng.choice(POOLS)
    return method, mutate.text(rng, body) if rng.random() < 0.7 else json.dumps(body).encode()


def raw(rng: random.Random) -> bytes:
    """Bytes that are nearly such a request, or several."""
    if rng.random() < 0.3:
        return rng.choice(RAW)
    if rng.random() < 0.5:
        return mutate.bent(rng, rng.choice(RAW), 1 << 18)
    return b"".join(_request(*call(rng)) for _ in range(rng.choice((1, 2, 5))))


def _request(method: str, body: bytes) -> bytes:
    return b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (method.encode(), len(body), body)


def judge(request: object, status: int, body: bytes) -> str:
    """What became of a call. Fault: an answer that Docker never gets."""
    wrong = "its status" if status >= 500 and status not in (501, 503, 505) else ""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        wrong = wrong or "its body is no JSON object"
    elif line := answer.get("Err") or answer.get("Error"):
        if not (isinstance(line, str) and line.isprintable() and len(line) <= LONGEST_LINE):
            wrong = wrong or "its line"
    elif status != 200:
        wrong = wrong or "it says no reason"
    if wrong:
        raise Fault(f"{request!r:.2000} was answered by {status} {body[:2000]!r}: {wrong}")
    return "refused" if status != 200 or (answer or {}).get("Err") else "done"


_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |$)")
_LENGTH = re.compile(rb"(?im)^content-length: *([0-9]+)\r?$")


def answers(content: bytes, said: bytes) -> str:
    """What became of requests, by all that came back."""
    became = "ended"
    while said:
        head, end, rest = said.partition(b"\r\n\r\n")
        found = _STATUS.match(head)
        if found is None or not end:
            raise Fault(f"{content[:2000]!r} was answered by {said[:2000]!r}")
        status, said = int(found[1]), rest
        if status == 100:
            continue
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        became = judge(content, status, rest[:size])
        said = rest[size:]
    return became


class _Session:
    """One thread's calls."""

    def __init__(self, target: Target, seed: int) -> None:
        self._target, self._rng = target, random.Random(seed)
        self._held: list[socket.socket] = []
        self.became = Counter[str]()
        self.faults: list[str] = []

    def run(self, until: float) -> None:
        """Until then, or there are enough faults."""
        while time.monotonic() < until and len(self.faults) < ENOUGH:
            try:
                self.became[self._one()] += 1
            except (Fault, OSError) as fault:
                self.faults.append(f"{type(fault).__name__}: {fault}")
        for held in self._held:
            held.close()

    def _one(self) -> str:
        rng = self._rng
        content = _request(*call(rng)) if rng.random() < 0.7 else raw(rng)
        made = self._target.connect()
        if rng.random() < 0.05:
            self._held.append(made)
            with contextlib.suppress(OSError):  # it may end before it has read all
                made.sendall(content[: rng.randrange(len(content) + 1)])
            if len(self._held) > HELD:
                self._held.pop(rng.randrange(len(self._held))).close()
            return "left open"
        with made:
            try:
                said, reset = exchange(made, content, PATIENCE)
            except TimeoutError:
                raise Fault(f"{content[:2000]!r} was not answered within {PATIENCE} s") from None
        return "reset" if reset else answers(content, said)


def connect(target: Target, seconds: float, seed: int, _: Iterable[str] = ()) -> Counter[str]:
    """To an agent that runs: what became of the calls."""
    until = time.monotonic() + seconds
    sessions = [_Session(target, seed * THREADS + n) for n in range(THREADS)]
    threads = [threading.Thread(target=session.run, args=(until,), daemon=True) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults := [line for session in sessions for line in session.faults]:
        raise Fault("\n".join(faults))
    return sum((session.became for session in sessions), Counter[str]())


class Parts:
    """The parts of an agent that a plugin call reaches, without controller, Docker and switch."""

    def __init__(self, directory: Path) -> None:
        self.state = State("host")
        self.state.update(listed=True, followed=True)
        subnet, gateway = IPv4Network("10.241.0.0/24"), IPv4Address("10.241.0.254")
        self.state.set_network(LocalNetwork(NETWORK, "net", "default", "net", subnet, gateway))
        self.sync = Synchroniser(NOBODY, self.state, lambda: None)  # type: ignore[arg-type,return-value]
        bridge = Bridge(Ovsdb(f"unix:{directory}/ovsdb"), "br", "host", ["tcp:127.0.0.1:6653"], "netdev")
        self.ipam = Ipam(self.state, self.sync)
        ways = Ways(self.state, Docker("unix:///nowhere", "netctl"), lambda _: None, lambda: None)
        driver = Driver(self.state, self.sync, Ports(bridge, self.state), self.ipam, ways)
        self.calls: dict[str, Call] = {**driver.calls(), **self.ipam.calls()}

    def made(self, method: str, body: bytes) -> str:
        """What becomes of a call."""
        if method not in self.calls:
            return "unknown"
        try:
            document = reading.load(body)
        except ValueError as error:
            assert str(error).isprintable()
            return "no JSON"
        if not isinstance(document, dict):
            return "no object"
        try:
            answer = self.calls[method](document)
        except AgentError:
            return "refused"
        json.dumps(answer)
        return "done"


def run(count: int, seed: int) -> Counter[str]:
    """So many calls in this process."""
    logging.disable(logging.CRITICAL)  # each refusal is a line
    try:
        return _run(count, seed)
    finally:
        logging.disable(logging.NOTSET)


def _run(count: int, seed: int) -> Counter[str]:
    rng, became = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as directory:
        parts = Parts(Path(directory))
        for _ in range(count):
            method, body = call(rng)
            if method == "NetworkDriver.CreateEndpoint":
                continue  # it waits for controller and switch
            began = time.process_time()
            try:
                became[parts.made(method, body)] += 1
            except Exception as error:
                raise Fault(f"{method} {body[:2000]!r}: {type(error).__name__}: {error}") from error
            if time.process_time() - began > SLOWEST:
                raise Fault(f"took too long: {method} {body[:2000]!r}")
    return became


if __name__ == "__main__":
    raise SystemExit(command("plugin", __doc__, run, connect))
