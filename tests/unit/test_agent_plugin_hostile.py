"""What reaches the plugin's socket and is not Docker: bounded in size, time and number, and one line at the most."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netctl.agent import plugin as module
from netctl.agent.errors import StartError
from netctl.agent.plugin import PluginServer
from tests.fuzz.mutate import places, replaced
from tests.unit.agent_kit import wait_for
from tests.unit.hostile import within
from tests.unit.test_agent_plugin import ENDPOINT, NETWORK, Plugin, plugin, post, refused
from topology import complaints

__all__ = ["plugin"]

ESCAPES = ["\x1b]0;owned\x07", "a\nFAKE LINE", "\x9b2J", "\u202egnp", "x" * 5000]


def connect(path: Path) -> socket.socket:
    """A connection to the plugin."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(10)
    made.connect(str(path))
    return made


def closed(connection: socket.socket) -> bool:
    """Whether the plugin ends it, whatever it says before."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


@pytest.mark.parametrize("part", ["request line", "headers", "body"])
def test_a_request_drop_by_drop(plugin: Plugin, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few such clients would take all of the plugin's connections, and Docker would get none."""
    monkeypatch.setattr(module, "REQUEST_TIME", 0.5)
    before = {
        "request line": b"",
        "headers": b"POST /Plugin.Activate HTTP/1.1\r\nX: ",
        "body": b"POST /Plugin.Activate HTTP/1.1\r\nContent-Length: 5000\r\n\r\n",
    }[part]
    with within(5), connect(plugin.path) as slow:
        slow.sendall(before)
        with contextlib.suppress(OSError):  # it is closed in the end
            while True:
                slow.sendall(b" ")
                time.sleep(0.02)  # the pace of a slow client is what is tested
    assert "Implements" in plugin.call("Plugin.Activate")


def test_a_client_that_does_not_read(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold a thread of the agent for ever."""
    monkeypatch.setattr(module, "REQUEST_TIME", 0.5)
    request = b"POST /Nothing HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    with within(8), connect(plugin.path) as deaf, contextlib.suppress(OSError):
        while True:
            deaf.sendall(request)
    assert "Implements" in plugin.call("Plugin.Activate")


@pytest.mark.parametrize("what", ["silent", "half a request line", "half a head"])
def test_more_connections_than_there_is_room_for(
    plugin: Plugin, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker could not start a container any more until the agent is started anew."""
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 8)
    said = {"silent": b"", "half a request line": b"POST /Plug", "half a head": b"POST / HTTP/1.1\r\nX: y\r\n"}[what]
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(connect(plugin.path)).sendall(said)
        with within(5):
            assert "Implements" in plugin.call("Plugin.Activate")
        wait_for(lambda: sum(t.name.startswith("plugin-") for t in threading.enumerate()) <= 8, "the others to end")


def test_calls_under_way_are_not_given_up_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of connections would fail the containers that are just starting."""
    monkeypatch.setattr(module, "MAX_CALLS", 3)
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 5)
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def slow(body: object) -> dict[str, str]:
        begun.release()
        assert go_on.wait(10)
        return {"Slow": "done"}

    path = tmp_path / "netctl.sock"
    server = PluginServer(path, {"Slow": slow})
    server.start()
    answers: list[Any] = []
    callers = [threading.Thread(target=lambda: answers.append(post(path, "Slow", b"{}"))) for _ in range(3)]
    for caller in callers:
        caller.start()
    assert all(begun.acquire(timeout=10) for _ in callers)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(path))
        status, answer = post(path, "Slow", b"{}")
    assert (status, refused(answer)) == (503, "netctl-agent has 3 calls under way: try again in a moment")
    go_on.set()
    for caller in callers:
        caller.join(10)
    assert answers == [(200, {"Slow": "done"})] * 3
    server.stop()


def test_a_head_over_its_limit(plugin: Plugin) -> None:
    """Each connection would take megabytes."""
    line = b"X: " + b"y" * 1000 + b"\r\n"
    answer = plugin.raw(b"POST /Plugin.Activate HTTP/1.1\r\n" + line * 50 + b"Content-Length: 2\r\n\r\n{}")
    assert b" 431 " in answer.splitlines()[0]


@pytest.mark.parametrize(
    "line",
    [b"", b"POST /", b"\x16\x03\x01", b"POST /x HTTP/9.9", b"POST /x HTTP/x", b"GET /x",
     b"POST\xa0/Plugin.Activate HTTP/1.1"],
)
def test_a_request_line_that_is_none(plugin: Plugin, line: bytes) -> None:
    """The answer would have no head: its reader can't tell why it was refused."""
    answer = plugin.raw(line + b"\r\n\r\n")
    if line:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 ") and b"\r\nConnection: close" in head
        assert refused(json.loads(body)).isprintable()


@pytest.mark.parametrize(
    "lines", [b"Content-Length : 2", b"X: y\rZ: z", b"X", b"Content-Length: 2\r\nContent-Length: 0"]
)
def test_a_header_that_is_none(plugin: Plugin, lines: bytes) -> None:
    """What follows would be taken for a call of its own."""
    answer = plugin.raw(b"POST /Plugin.Activate HTTP/1.1\r\n" + lines + b"\r\n\r\n{}")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"\r\nConnection: close" in head
    assert ("must be NAME: VALUE" in refused(json.loads(body))) != (b"Length: 0" in lines)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"a":' * 40 + b"1" + b"}" * 40, "levels deep"),
        (b'{"Pool": "\\ud800"}', "half of a character"),
        (b'{"Pool": NaN}', "not JSON"),
        (b'{"Pool": 1e999}', "not JSON"),
        (b'{"Pool": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_bodies_that_no_docker_sends(plugin: Plugin, body: bytes, line: str) -> None:
    """What comes of them later would be an internal error, far from its cause."""
    assert line in refused(plugin.post("IpamDriver.RequestPool", body)[1])


@pytest.mark.parametrize("text", ESCAPES)
def test_text_that_a_terminal_or_a_log_obeys(plugin: Plugin, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """The name of an option could rewrite the screen of its reader, or put lines of its own into the log."""
    for method, body in (
        ("IpamDriver.RequestPool", {"Options": {text: "x"}}),
        ("IpamDriver.RequestPool", {"Pool": text}),
        ("IpamDriver.RequestPool", {"V6": text}),
        ("IpamDriver.RequestAddress", {"PoolID": text}),
        ("IpamDriver.RequestAddress", {"PoolID": f"{text}/10.9.0.0/24"}),
        ("NetworkDriver.CreateNetwork", {
            "NetworkID": NETWORK, "Options": {"com.docker.network.generic": {text: ""}}}),
        ("NetworkDriver.CreateNetwork", {
            "NetworkID": "3" * 64, "Options": {"com.docker.network.generic": {"tenant": text}},
            "IPv4Data": [{"AddressSpace": "netctl-local", "Pool": "10.7.0.0/24"}]}),
        ("NetworkDriver.Join", {"NetworkID": NETWORK, "EndpointID": ENDPOINT, "SandboxKey": text}),
        ("NetworkDriver.CreateEndpoint", {
            "NetworkID": NETWORK, "EndpointID": ENDPOINT, "Interface": {"Address": "10.1.1.1", "MacAddress": text}}),
    ):  # fmt: skip
        line = refused(plugin.call(method, **body))
        assert line.isprintable() and len(line) <= 600
    assert all(len(record.getMessage()) < 800 for record in caplog.records)


WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
    st.just([]), st.just({}), st.just([{}]), st.just([[]]), st.just({"": None}), st.sampled_from(ESCAPES),
)  # fmt: skip
TREE = st.recursive(WRONG, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner))
GOOD: Mapping[str, Mapping[str, Any]] = {
    "NetworkDriver.CreateNetwork": {
        "NetworkID": "2" * 64, "Options": {"com.docker.network.generic": {"tenant": "t", "network": "n"},
        "com.docker.network.internal": True}, "IPv4Data": [{"AddressSpace": "x", "Pool": "10.6.0.0/24",
        "Gateway": "10.6.0.1/24", "AuxAddresses": {}}], "IPv6Data": [{"Pool": "fd06::/64", "Gateway": "fd06::1/64"}]},
    "NetworkDriver.DeleteNetwork": {"NetworkID": "2" * 64},
    "NetworkDriver.CreateEndpoint": {
        "NetworkID": NETWORK, "EndpointID": ENDPOINT,
        "Interface": {"Address": "10.1.1.1/24", "AddressIPv6": "", "MacAddress": ""}, "Options": {}},
    "NetworkDriver.Join": {"NetworkID": NETWORK, "EndpointID": ENDPOINT, "SandboxKey": "/x/y", "Options": {}},
    "NetworkDriver.EndpointOperInfo": {"NetworkID": NETWORK, "EndpointID": ENDPOINT},
    "NetworkDriver.AllocateNetwork": {"Options": {}},
    "IpamDriver.RequestPool": {"Pool": "10.9.0.0/24", "SubPool": "10.9.0.0/25", "Options": {"tenant": ""}, "V6": False},
    "IpamDriver.ReleasePool": {"PoolID": "-/10.9.0.0/24"},
    "IpamDriver.RequestAddress": {
        "PoolID": "-/10.9.0.0/24", "Address": "10.9.0.1",
        "Options": {"RequestAddressType": "com.docker.network.gateway"}},
    "IpamDriver.ReleaseAddress": {"PoolID": "default/10.1.1.0/24", "Address": "10.1.1.7"},
}  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_wrong_value_in_any_field(plugin: Plugin, data: st.DataObject) -> None:
    """One wrong field would be an internal error, or a traceback in the log."""
    method = data.draw(st.sampled_from(sorted(GOOD)))
    path = data.draw(st.sampled_from(list(places(GOOD[method]))))
    status, answer = plugin.post(method, json.dumps(replaced(GOOD[method], path, data.draw(TREE))).encode())
    assert status < 500, answer
    if "Err" in answer:
        assert refused(answer).isprintable()


def test_calls_that_are_refused_do_not_fill_the_log(plugin: Plugin, caplog: pytest.LogCaptureFixture) -> None:
    """A client that calls again and again would hide all else, or fill the disk."""
    calls = 5 * complaints.BURST
    for _ in range(calls):
        assert b"unknown method" in plugin.raw(b"POST /Driver.Again HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    said = [record for record in caplog.records if "Driver.Again" in record.getMessage()]
    assert 0 < len(said) <= complaints.BURST + 1


def test_an_error_of_our_own_is_loud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mistake in the agent would show as nothing but a container that does not start."""
    path = tmp_path / "netctl.sock"

    def broken(body: object) -> dict[str, Any]:
        raise KeyError("a\nb\x1b")

    server = PluginServer(path, {"Broken": broken, "Strange": lambda _: {"x": object()}})
    server.start()
    for method in ("Broken", "Strange"):
        caplog.clear()
        status, answer = post(path, method, b"{}")
        assert status == 500 and refused(answer).isprintable()
        (record,) = (r for r in caplog.records if r.levelno == logging.CRITICAL)
        assert record.exc_info, method
    server.stop()


def test_who_else_calls_is_not_docker(plugin: Plugin) -> None:
    """After any other program's call a container's namespace would be looked for in that program's file system."""
    docker = connect(plugin.path)
    with docker:
        body = json.dumps({"NetworkID": NETWORK, "EndpointID": ENDPOINT, "SandboxKey": "/x/y"}).encode()
        docker.sendall(b"POST /NetworkDriver.Join HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert docker.recv(65536)
    assert plugin.server.caller == os.getpid()
    said = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(plugin.path)!r}); "
    said += "s.sendall(b'POST /Plugin.Activate HTTP/1.1\\r\\nContent-Length: 0\\r\\n\\r\\n'); assert s.recv(9)"
    subprocess.run([sys.executable, "-I", "-c", said], check=True, timeout=30)
    assert plugin.server.caller == os.getpid()


@pytest.mark.parametrize(("mode", "good"), [(0o777, False), (0o770, False), (0o755, True), (0o711, True)])
def test_the_directory_of_the_socket(tmp_path: Path, mode: int, good: bool) -> None:
    """Who may write there could put a socket of his own in its place, and give containers any address and route."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    os.chown(folder, 0, 65534)
    folder.chmod(mode)
    path = folder / "netctl.sock"
    if good:
        server = PluginServer(path, {})
        server.start()
        server.stop()
        return
    with pytest.raises(StartError, match="others than root may write"):
        PluginServer(path, {})


def test_a_directory_that_is_made(tmp_path: Path) -> None:
    """With a lax umask, anybody could take the socket's place."""
    old = os.umask(0)
    try:
        server = PluginServer(tmp_path / "new" / "plugins" / "netctl.sock", {})
    finally:
        os.umask(old)
    server.start()
    assert stat.S_IMODE((tmp_path / "new" / "plugins").stat().st_mode) == 0o755
    server.stop()
