"""What an operator reads: counters of a service, and the trace of a connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from netctl.cli import main
from tests.unit.fake_controller import FakeController

Run = Callable[..., str]
PROVIDERS = [
    {"endpointID": "ab" * 32, "containerID": "cd" * 32, "containerName": "/web-1", "ipAddress": ["10.1.1.1", ""],
     "state": "running", "weight": 1},
    {"endpointID": "w2", "ipAddress": ["10.1.1.2", ""], "state": "draining", "weight": 3, "health": "unhealthy",
     "check": "failing"},
]  # fmt: skip
COUNTERS = {
    "packets": 400,
    "refused": 2,
    "providers": {"ab" * 32: 30, "w2": 6},
    "ports": [
        {"port": "8080:80:TCP", "connections": 39, "providers": {}, "other": 4},
        {"port": "5353:53:UDP", "connections": 1, "providers": {}, "other": 0},
    ],
}
TRACE = {
    "from": "web-1", "source": "20.1.1.1", "tenantName": "default", "networkName": "clients", "to": "100.1.1.1",
    "proto": "tcp", "port": 8080, "switch": "0000000000000001", "verdict": "delivered",
    "steps": [{"table": "classify", "text": "port p1 is web-1's"}, {"table": "guard", "text": "so be it"}],
    "outcome": "delivered to w1", "notes": ["the switch does not have all of this yet"], "ends": [],
}  # fmt: skip
GOOD, LOST = "delivered to web-1 at port p1 on host a, from 100.1.1.1:8080", "lost: network default:back has no gateway"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeController]:
    with FakeController() as controller:
        monkeypatch.setenv("NETMASTER", controller.url)
        yield controller


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command line that must succeed; what it printed."""

    def run(*args: str) -> str:
        status = main(args)
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return out

    return run


def answer(fake: FakeController, counters: dict[str, Any]) -> None:
    oper = {"serviceVip": "100.1.1.1", "providers": PROVIDERS, "counters": counters}
    fake.raw = json.dumps({"Config": {}, "Oper": oper}).encode()


@pytest.mark.parametrize("verb", ["stats", "counters"])
def test_service_stats(fake: FakeController, run: Run, verb: str) -> None:
    """Otherwise the counts are there, and nobody can read them."""
    answer(fake, COUNTERS)
    assert run("service", verb, "app", "-t", "blue").splitlines() == [
        "blue:app at 100.1.1.1: 400 packets, 2 refused",
        "8080:80:TCP: 39 connections",
        "5353:53:UDP: 1 connection",
        "",
        "Provider  Address   State                                   Weight  Connections  Share",
        "--------  -------   -----                                   ------  -----------  -----",
        "web-1     10.1.1.1  running                                 1       30           75.0 %",
        "w2        10.1.1.2  draining, unhealthy, failing its check  3       6            15.0 %",
        "(other)                                                             4            10.0 %",
    ]
    assert urlsplit(fake.seen[0][1]).path == "/api/v1/inspect/serviceLBs/blue:app/"


def test_service_stats_of_both_families(fake: FakeController, run: Run) -> None:
    """Otherwise the IPv6 address of a service or of a provider is nowhere to be read."""
    oper: dict[str, Any] = {"serviceVip": "100.1.1.1", "serviceVip6": "fd00::1", "counters": COUNTERS}
    oper["providers"] = [PROVIDERS[1] | {"ipAddress": ["10.1.1.2", "fd00::2"]}]
    fake.raw = json.dumps({"Oper": oper}).encode()
    lines = run("service", "stats", "app").splitlines()
    assert lines[0] == "default:app at 100.1.1.1 and fd00::1: 400 packets, 2 refused"
    assert lines[-2].split()[:2] == ["w2", "10.1.1.2,fd00::2"]
    assert json.loads(run("service", "stats", "app", "-j"))["serviceVip6"] == "fd00::1"


def test_service_stats_without_an_answer(fake: FakeController, run: Run) -> None:
    """Otherwise a switch that does not answer looks like a service that nobody uses."""
    answer(fake, {})
    lines = run("service", "stats", "app").splitlines()
    assert lines[0] == "default:app at 100.1.1.1: nothing is counted, no switch is connected or no controller leads"
    assert lines[-1].split()[-2:] == ["-", "-"]
    answer(fake, COUNTERS | {"unread": {"0a": "it is busy"}, "errors": {"0b": "no room"}})
    lines = run("service", "stats", "app").splitlines()
    assert lines[3:5] == ["switch 0a is not counted here: it is busy", "switch 0b refuses the service: no room"]


def test_service_stats_as_json(fake: FakeController, run: Run) -> None:
    """Otherwise programs read a table."""
    answer(fake, COUNTERS)
    assert json.loads(run("service", "stats", "app", "--json")) == {
        "key": "default:app", "serviceVip": "100.1.1.1", "counters": COUNTERS, "providers": PROVIDERS,
    }  # fmt: skip


def test_trace(fake: FakeController, run: Run) -> None:
    """Otherwise the one who looks for a mistake reads JSON."""
    fake.raw = json.dumps(TRACE).encode()
    assert run("trace", "--from", "web-1", "--to", "100.1.1.1:8080/TCP", "-source-port", "4000").splitlines() == [
        "TCP from web-1 (20.1.1.1, network default:clients) to 100.1.1.1:8080, at switch 0000000000000001",
        "",
        "classify  port p1 is web-1's",
        "guard     so be it",
        "",
        "delivered to w1",
        "note: the switch does not have all of this yet",
    ]
    url = urlsplit(fake.seen[0][1])
    assert url.path == "/api/v1/trace/"
    assert {name: values for name, (values,) in parse_qs(url.query).items()} == {
        "from": "web-1", "to": "100.1.1.1", "port": "8080", "proto": "TCP", "sourcePort": "4000",
    }  # fmt: skip


def replied(verdict: str, text: str, *steps: tuple[str, str], sender: str = "") -> dict[str, Any]:
    """One end of a trace."""
    doc: dict[str, Any] = {"verdict": verdict, "text": text, "steps": [{"table": t, "text": w} for t, w in steps]}
    return {"verdict": "delivered", "reply": doc | ({"from": sender} if sender else {})}


def test_trace_with_replies(fake: FakeController, run: Run) -> None:
    """Otherwise nobody sees where a reply is lost; or a service of many providers fills the screen."""
    ends = [
        replied("delivered", GOOD, ("neighbour", "by way of the gateway"), ("guard", "so be it"), sender="w1"),
        *(replied("delivered", GOOD, ("guard", "so be it"), sender=f"w{n}") for n in range(2, 12)),
        replied("lost", LOST, sender="b1"),
        replied("unknown", "unknown: it is the host's, or comes from outside"),
        {"verdict": "refused"},
    ]
    fake.raw = json.dumps(TRACE | {"ends": ends, "notes": []}).encode()
    assert run("trace", "--from", "web-1", "--to", "100.1.1.1:8080").splitlines()[5:] == [
        f"reply from w1: {GOOD}",
        "  neighbour  by way of the gateway",
        "  guard      so be it",
        *(f"reply from w{n}: {GOOD}" for n in range(2, 9)),
        f"reply from b1: {LOST}",
        "reply: unknown: it is the host's, or comes from outside",
        "and 3 more replies: delivered",
        "",
        "delivered to w1",
    ]


def test_trace_of_a_ping(fake: FakeController, run: Run) -> None:
    """Otherwise only connections can be traced."""
    fake.raw = json.dumps(TRACE | {"proto": "icmp", "port": 0, "steps": [], "notes": []}).encode()
    assert run("trace", "--to=100.1.1.1", "--from=web-1", "--source=10.1.1.9").splitlines() == [
        "ping from web-1 (20.1.1.1, network default:clients) to 100.1.1.1, at switch 0000000000000001",
        "",
        "delivered to w1",
    ]
    assert parse_qs(urlsplit(fake.seen[0][1]).query)["source"] == ["10.1.1.9"]
    assert json.loads(run("trace", "--from", "web-1", "--to", "100.1.1.1", "-j"))["outcome"] == "delivered to w1"


@pytest.mark.parametrize(
    ("goal", "sent", "shown"),
    [
        ("fd00::1", {"to": "fd00::1"}, "fd00::1"),
        ("::", {"to": "::"}, "::"),
        ("[fd00::1]", {"to": "fd00::1"}, "fd00::1"),
        ("[fd00::1]:8080", {"to": "fd00::1", "port": "8080"}, "[fd00::1]:8080"),
        ("[fd00::1]:53/udp", {"to": "fd00::1", "port": "53", "proto": "udp"}, "[fd00::1]:53"),
    ],
)
def test_trace_to_an_ipv6_address(
    fake: FakeController, run: Run, goal: str, sent: dict[str, str], shown: str
) -> None:
    """Otherwise the colons of an IPv6 address are taken for a port's."""
    port = int(sent.get("port", "0"))
    fake.raw = json.dumps(TRACE | {"to": "fd00::1" if port else sent["to"], "port": port}).encode()
    assert f" to {shown}, at switch" in run("trace", "--from", "web-1", "--to", goal)
    query = parse_qs(urlsplit(fake.seen[0][1]).query)
    assert {name: values for name, (values,) in query.items() if name != "from"} == sent


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--to", "1.1.1.1"], "netctl trace: --from required (see netctl trace --help)"),
        (["--from", "c1"], "netctl trace: --to required (see netctl trace --help)"),
        (["--from", "c1", "--to", "1.1.1.1:80/sctp"],
         "netctl trace: --to takes ADDRESS[:PORT[/tcp|udp]], not '1.1.1.1:80/sctp' (see netctl trace --help)"),
        (["--from", "c1", "--to", "[fd00::1]80"],
         "netctl trace: --to takes ADDRESS[:PORT[/tcp|udp]], not '[fd00::1]80' (see netctl trace --help)"),
        (["--from", "c1", "--to", "fd00::1/tcp"],
         "netctl trace: --to takes ADDRESS[:PORT[/tcp|udp]], not 'fd00::1/tcp' (see netctl trace --help)"),
    ],
)  # fmt: skip
def test_usage_of_trace(fake: FakeController, capsys: pytest.CaptureFixture[str], args: list[str], line: str) -> None:
    """Otherwise a mistyped question is answered with a traceback, or for another connection."""
    assert main(["trace", *args]) == 1
    assert capsys.readouterr().err == line + "\n"
    assert not fake.seen
