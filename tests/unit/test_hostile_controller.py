"""Whatever answers in a controller's place: the command line and the agent get one line, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import resource
from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netctl import exchange as module
from netctl.cli import main
from netctl.client import Client, ClientError, NoConnection, Refused
from tests.unit.hostile import HEAD, Hostile, chunked, endless, whole, within

MIB = 1 << 20
STREAM_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CALLS: dict[str, Callable[[Client], object]] = {
    "tenants": Client.tenants,
    "put_tenant": lambda c: c.put_tenant("t"),
    "networks": Client.networks,
    "network": lambda c: c.network("default:n"),
    "put_network": lambda c: c.put_network({"tenantName": "default", "networkName": "n"}),
    "pick_subnet": lambda c: c.pick_subnet("default"),
    "services": Client.services,
    "put_service": lambda c: c.put_service({"tenantName": "default", "serviceName": "s"}),
    "endpoints": Client.endpoints,
    "endpoint": lambda c: c.endpoint("e"),
    "put_endpoint": lambda c: c.put_endpoint({"endpointID": "e"}),
    "set_checks": lambda c: c.set_checks("e", {}),
    "hosts": Client.hosts,
    "host": lambda c: c.host("h"),
    "put_host": lambda c: c.put_host({"hostName": "h"}),
    "drain_host": lambda c: c.drain_host("h"),
    "sync_endpoints": lambda c: c.sync_endpoints("h", []),
    "switches": Client.switches,
    "switch": lambda c: c.switch("1"),
    "controllers": Client.controllers,
    "grant_lease": lambda c: c.grant_lease("default", "n", "h"),
    "inspect": lambda c: c.inspect("networks", "default:n"),
    "trace": lambda c: c.trace({"from": "e"}),
    "version": Client.version,
}
LISTS = ("tenants", "networks", "services", "endpoints", "hosts", "switches", "controllers")


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


@pytest.fixture
def client(hostile: Hostile) -> Iterator[Client]:
    with Client(hostile.url, timeout=0.5) as client:
        yield client


def refusal(client: Client, call: Callable[[Client], object], *, own: bool = True) -> str:
    """The one line that a call ends in; one of the client's own names who answered."""
    with pytest.raises(ClientError) as caught:
        call(client)
    line = str(caught.value)
    assert not own or client.url in line
    assert line.isprintable() and len(line) < 1000
    return line


def redirect(where: str) -> bytes:
    """An answer that leads to another place."""
    return f"HTTP/1.1 307 x\r\nLocation: {where}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("how", ["length", "chunks", "until the end", "compressed", "refusal", "head"])
def test_an_answer_without_an_end(
    hostile: Hostile, client: Client, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's memory would be gone, and with it the containers on it."""
    monkeypatch.setattr(module, "MAX_ANSWER", 4 * MIB)
    piece = b" " * 65536
    bomb = gzip.compress(bytes(64 * MIB))
    compressed = HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb
    hostile.answer = {
        "length": lambda: chain([HEAD + b"Content-Length: 99999999999\r\n\r\n"], endless(piece)),
        "chunks": lambda: chunked(endless(piece)),
        "until the end": lambda: chain([HEAD + b"\r\n"], endless(piece)),
        "compressed": lambda: iter([compressed]),
        "refusal": lambda: chain([b"HTTP/1.1 422 No\r\n\r\n"], endless(piece)),
        "head": lambda: chain([HEAD], (b"X-%d: %s\r\n" % (n, b"x" * 60000) for n in count())),
    }[how]
    before = peak()
    with within(10):
        refusal(client, Client.networks, own=how != "refusal")
    assert peak() - before < 48 * MIB


@pytest.mark.parametrize("part", ["head", "body", "chunks", "refusal"])
def test_an_answer_drop_by_drop(
    hostile: Hostile, client: Client, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent's thread, or a user's command, would wait for as long as somebody pleases."""
    monkeypatch.setattr(module, "BODY_TIME", 1.0)
    hostile.answer = {
        "head": lambda: hostile.drip(chain([b"HTTP/1.1 200 OK\r\nX: "], endless(b"x"))),
        "body": lambda: hostile.drip(chain([HEAD + b"Content-Length: 9999\r\n\r\n"], endless(b" "))),
        "chunks": lambda: hostile.drip(chunked(endless(b" "))),
        "refusal": lambda: hostile.drip(chain([b"HTTP/1.1 422 No\r\n\r\n"], endless(b"x"))),
    }[part]
    with within(5):
        assert "no answer in time" in refusal(client, Client.networks)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "levels deep"),
        (b'{"Config":' * 50 + b"1" + b"}" * 50, "levels deep"),
        (b'[{"networkName": NaN}]', "not JSON"),
        (b"[1e999]", "not JSON"),
        (b"9" * 5000, "not JSON"),
        (b'["\\ud800"]', "half of a character"),
        (b'["\xff"]', "not UTF-8"),
        (b"<html>", "not JSON"),
    ],
)
def test_what_is_no_json_to_us(hostile: Hostile, client: Client, body: bytes, line: str) -> None:
    """A traceback in place of a reason, and in the agent a dead thread."""
    hostile.answer = lambda: [whole(body)]
    assert line in refusal(client, lambda c: c.inspect("networks", "default:n"))


@pytest.mark.parametrize(
    ("call", "answer", "line"),
    [
        ("put_host", [], "an object, not a list"),
        ("put_host", {"hostAddress": 7}, "hostAddress: a string, not 7"),
        ("grant_lease", {"key": "k"}, "ipAddress is missing"),
        ("grant_lease", {"key": "k", "ipAddress": ["10.1.1.1"]}, "ipAddress: a string, not a list"),
        ("sync_endpoints", {}, "revision is missing"),
        ("sync_endpoints", {"revision": "7"}, "revision: a whole number"),
        ("sync_endpoints", {"revision": True}, "revision: a whole number"),
        ("sync_endpoints", {"revision": 1 << 70}, "is not a whole number of 64 bits"),
        ("pick_subnet", {"subnet": None}, "subnet: a string"),
        ("pick_subnet", {"subnet": "10.1.1.0"}, "subnet: an IPv4 subnet"),
        ("grant_lease", {"key": "k", "ipAddress": "x"}, "ipAddress: an address with its prefix length"),
        ("put_host", {"hostAddress": "here"}, "hostAddress: an IPv4 address"),
        ("endpoints", [{"labels": {"a": 1}}], "[0].labels.a: a string, not 1"),
        ("endpoints", [{"ipAddress": "10.1.1.1"}], "[0].ipAddress: a list"),
        ("endpoints", [7], "[0]: an object, not 7"),
        ("services", [{"healthCheck": "tcp"}], "[0].healthCheck: an object"),
        ("hosts", [{"lastHeartbeat": "now"}], "[0].lastHeartbeat: a number"),
        ("trace", {"steps": []}, "is missing"),
        ("inspect", [], "an object, not a list"),
        ("version", {"Version": {}}, "Version: a string, not an object"),
    ],
)
def test_an_answer_of_another_type(hostile: Hostile, client: Client, call: str, answer: object, line: str) -> None:
    """The agent would die of it again and again, and the user would read a traceback."""
    hostile.answer = lambda: [whole(answer)]
    assert line in refusal(client, CALLS[call])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "key", "tenantName", "networkName", "subnet", "gateway", "ipAddress", "labels", "hostName", "hostAddress", "state",
    "revision", "errors", "dpid", "ports", "flows", "serviceVip", "noWayBack", "Config", "Oper", "Version", "steps",
    "ends", "verdict", "reply", "url", "leads", "healthCheck", "numProviders", "counters", "providers",
)  # fmt: skip
COMMANDS = (
    "network ls", "network inspect n", "service ls", "service inspect s", "service stats s", "tenant ls",
    "endpoint ls", "endpoint inspect e", "host ls", "host inspect h", "switch ls", "switch inspect 1", "controller ls",
    "version", "trace --from e --to 10.1.1.1:80", "network create n -s 10.1.1.0/24", "network ls --json",
    "service ls -q",
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_answer_to_any_command(
    hostile: Hostile, data: st.DataObject, capfd: pytest.CaptureFixture[str]
) -> None:
    """Some answer that nobody thought of would end in a traceback, or write to the terminal what it obeys."""
    document = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6)
    answer = data.draw(JSON | document | st.lists(document, max_size=3))
    hostile.answer = lambda: [whole(answer)]
    command = data.draw(st.sampled_from(COMMANDS))
    status = main(["--netmaster", hostile.url, *command.split()])
    out, err = capfd.readouterr()
    assert status in (0, 3), err
    assert (status == 0) == (err == "" or "No Docker host" in err)
    assert (out + err).replace("\n", "").isprintable()
    assert err.count("\n") <= 1


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;owned\x07", "a\nb\rc", "\x9b31m", "\x7f", "\u202egnp.exe", "\u2028"])
@pytest.mark.parametrize("command", ["endpoint ls", "endpoint ls --json", "endpoint ls -q", "endpoint inspect e"])
def test_what_a_terminal_obeys(
    hostile: Hostile, capfd: pytest.CaptureFixture[str], command: str, text: str
) -> None:
    """Who names a container could rewrite the screen of who lists it, or hide in its list."""
    document = {"endpointID": text, "containerName": text, "labels": {text: text}, "tenantName": "default"}
    inspects = "inspect" in command
    hostile.answer = lambda: [whole({"Config": document, "Oper": {text: [text]}} if inspects else [document])]
    assert main(["--netmaster", hostile.url, *command.split()]) == 0
    out, _ = capfd.readouterr()
    assert out and out.replace("\n", "").isprintable()
    if "--json" in command:
        assert json.loads(out)[0]["containerName"] == text, "what a script reads is as it was"
    hostile.answer = lambda: [whole(text.encode(), "422 No")]
    assert main(["--netmaster", hostile.url, *command.split()]) == 3
    _, err = capfd.readouterr()
    assert err[:-1].isprintable()


def test_a_name_without_an_end(hostile: Hostile, capfd: pytest.CaptureFixture[str]) -> None:
    """One container's name would fill the screens of all who list."""
    document = {"endpointID": "e", "containerName": "x" * MIB, "tenantName": "default"}
    hostile.answer = lambda: [whole([document] * 3)]
    assert main(["--netmaster", hostile.url, "endpoint", "ls"]) == 0
    assert max(map(len, capfd.readouterr().out.splitlines())) < 1000


def lines(*documents: object) -> Iterator[bytes]:
    return (json.dumps(document).encode() + b"\n" for document in documents)


def network(**fields: object) -> dict[str, object]:
    document = {"tenantName": "default", "networkName": "n", "subnet": "10.1.1.0/24", "number": 1} | fields
    return {"kind": "network", "revision": 1, "key": "default:n", "object": document}


def service(**fields: object) -> dict[str, object]:
    return {"kind": "service", "revision": 1, "key": "default:s", "object": {"tenantName": "default"} | fields}


SYNC = {"revision": 1, "kind": "sync"}


@pytest.mark.parametrize(
    ("pieces", "line"),
    [
        (lambda: endless(b"x" * 65536), "a line of more than"),
        (lambda: endless(b" " * 65536), "a line of more than"),
        (lambda: chain(lines(SYNC), endless(b"[" * 65536)), "a line of more than"),
        (
            lambda: chain.from_iterable(
                lines(network(dockerName="x" * 50_000) | {"key": f"default:{n}"}) for n in count()
            ),
            "without an end",
        ),
    ],
)
def test_a_change_stream_without_an_end(
    hostile: Hostile, client: Client, pieces: Any, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent would take all of its machine's memory."""
    monkeypatch.setattr(module, "MAX_CHANGE", MIB)
    monkeypatch.setattr(module, "MAX_PICTURE", 8 * MIB)
    hostile.answer = lambda: chunked(pieces())
    before = peak()
    with within(10), pytest.raises(NoConnection, match=line):
        for _ in client.changes():
            pass
    assert peak() - before < 48 * MIB


@pytest.mark.parametrize("piece", [b"\n", b" \n", b" "])
def test_a_change_stream_that_says_nothing(hostile: Hostile, client: Client, piece: bytes) -> None:
    """The agent would think itself connected to what has hung."""
    hostile.answer = lambda: hostile.drip(chunked(chain(lines(SYNC), endless(piece))))
    with within(5), pytest.raises(NoConnection, match="no answer in time"):
        for _ in client.changes(read_timeout=0.5):
            pass


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ([], "an object, not a list"),
        ({"kind": "network"}, "revision is missing"),
        ({"kind": "network", "revision": "1"}, "revision: a whole number"),
        ({"kind": 7, "revision": 1}, "kind: a string"),
        ({"kind": "network", "revision": 1}, "key is missing"),
        ({"kind": "network", "revision": 1, "key": 5, "object": None}, "key: a string"),
        ({"kind": "network", "revision": 1, "key": "default:n", "object": "x"}, "object: an object"),
        ({"kind": "tenant", "revision": 1, "key": "t", "object": {"number": "1"}}, "object.number: a whole number"),
        ({"kind": "host", "revision": 1, "key": "h", "object": {"tunnelAddress": []}}, "object.tunnelAddress"),
        (service(healthCheck=7), "object.healthCheck: an object"),
        ({"kind": "endpoint", "revision": 1, "key": "e", "object": {"passed": "x"}}, "object.passed: a list"),
        (network(subnet="10.1.1.0"), "object.dockerName is missing"),
        (network(dockerName="n", subnet="10.1.1.0/99"), "object.subnet: an IPv4 subnet a.b.c.d/len, not"),
        (network(dockerName="n", gateway="fd00::1"), "object.gateway: an IPv4 address"),
        (network(dockerName="n", ipv6Subnet="fd00::/200"), "object.ipv6Subnet: an IPv6 subnet"),
        ({"kind": "host", "revision": 1, "key": "h", "object": {"tunnelAddress": "x"}}, "tunnelAddress: an IPv4"),
        (service(publish=["80"]), "object.publish[0]: a port as in 80:8080:TCP"),
        (service(publish=["99999:80:TCP"]), "object.publish[0]: a port as in 80:8080:TCP"),
        (service(ports=["80:80:tcp;rm"]), "object.ports[0]: a port as in 80:8080:TCP"),
        (service(publishedAddress="here"), "object.publishedAddress: an IPv4 address"),
        (service(healthCheck={"path": "/ HTTP/1.0\r\nX: y"}), "object.healthCheck.path: a path as in /healthz"),
        (service(healthCheck={"interval": 0}), "object.healthCheck.interval: from 2 to 3600, not 0"),
        (service(healthCheck={"rise": -1}), "object.healthCheck.rise: from 1 to 100, not -1"),
        (b"[" * 100_000, "levels deep"),
    ],
)
def test_a_change_of_another_type(hostile: Hostile, client: Client, change: object, line: str) -> None:
    """The agent would die of it, at every start anew."""
    text = change if isinstance(change, bytes) else json.dumps(change).encode()
    hostile.answer = lambda: chunked([text + b"\n"])
    with pytest.raises(NoConnection) as caught:
        next(client.changes())
    assert line in str(caught.value)


def test_changes_of_a_later_version(hostile: Hostile, client: Client) -> None:
    """An agent would stop following a controller that was upgraded before it."""
    later = {"revision": 2, "kind": "policy", "key": "p", "object": {"more": 1}, "further": []}
    hostile.answer = lambda: chunked(lines(later, network(dockerName="n", new=7), SYNC))
    changes = client.changes()
    assert [next(changes)["kind"] for _ in range(3)] == ["policy", "network", "sync"]


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "{other}/elsewhere/",
        "{other}/api/v1/changes/?host=other",
        "ftp://127.0.0.1/api/v1/changes/?host=h",
        "http://user:password@127.0.0.1:1/api/v1/changes/?host=h",
        "http://[/api/v1/changes/?host=h",
        "{self}/api/v1/changes/?host=h",
        "",
    ],
)
def test_a_redirect_to_elsewhere(hostile: Hostile, client: Client, location: str) -> None:
    """Who answers in a controller's place could have the agent ask any server that it reaches."""
    with Hostile() as other:
        where = location.format(other=other.url, self=hostile.url)
        hostile.answer = lambda: [redirect(where)]
        with within(5), pytest.raises(ClientError) as caught:
            next(client.changes(host="h"))
        assert "redirect" in str(caught.value)
        assert not other.seen
    assert len(hostile.seen) <= 4


def test_no_redirect_of_anything_else(hostile: Hostile, client: Client) -> None:
    """A write would be done somewhere else than the user named."""
    with Hostile() as other:
        where = f"{other.url}/api/v1/tenants/"
        hostile.answer = lambda: [redirect(where)]
        for call in (Client.tenants, lambda c: c.put_tenant("t")):
            with pytest.raises(Refused, match="redirect"):
                call(client)
        assert not other.seen


def test_what_is_whole_is_still_taken(hostile: Hostile, client: Client) -> None:
    """The bounds would refuse an installation of a good size."""
    document = {"endpointID": "e" * 64, "labels": {"a": "b" * 200}, "ipAddress": ["10.1.1.1"], "tenantName": "default"}
    body = json.dumps([document] * 20_000).encode()
    hostile.answer = lambda: chunked(body[at : at + 60_000] for at in range(0, len(body), 60_000))
    assert len(client.endpoints()) == 20_000
