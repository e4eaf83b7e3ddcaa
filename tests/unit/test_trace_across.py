"""A trace goes on at the other switch, and names the other host."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from ryu_apps.pipeline import journey
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Owner, Program
from ryu_apps.pipeline.fields import TCP
from ryu_apps.pipeline.journey import Place
from ryu_apps.pipeline.trace import Question, Trace, trace
from tests.kit.several import PORTS_OF, A, B, Several, joined, on_hosts
from tests.kit.world import WEB, endpoint
from topology.model import Host
from topology.snapshot import Model


def ask(several: Several, to: str, port: int = 22, *, known: bool = True, sender: str = "c1") -> Trace:
    """From a container on host a."""
    model: Model = several.model
    who = model.endpoints[sender]
    question = Question(who, who.addresses[0], IPv4Address(to), TCP, port)
    others = {B: Place(several.contexts[B])} if known else {}
    return trace(several.contexts[A], question, others=others)


def lines(found: Trace) -> str:
    """All that it says."""
    return "\n".join(f"{table}: {text}" for table, text in found.steps)


def test_to_a_container_on_another_host() -> None:
    """If it fails: a trace ends at the host's edge, and the user has to guess."""
    found = ask(joined(), "10.1.1.12")
    assert found.verdict == "delivered"
    assert found.text == "delivered to o2 10.1.1.12:22 at port p13 on host b"
    assert "route: 10.1.1.12 is o2's → the way to host b" in lines(found)
    assert "classify: on host b: from another switch: network default:web" in lines(found)
    assert "deliver: on host b: out of port p13" in lines(found)


def test_to_a_service_with_providers_on_both() -> None:
    """If it fails: it is not seen which host a provider is on."""
    found = ask(joined(), "100.1.1.1", 8080)
    assert found.verdict == "delivered"
    assert {end.text.split(" at ")[1] for end in found.ends} == {
        "port p2 on host a", "port p3 on host a", "port p12 on host b",
    }  # fmt: skip
    assert len(found.ends) == 3


def test_what_the_other_host_drops() -> None:
    """If it fails: what another host does not let through is told as delivered."""
    everything = on_hosts()
    several = joined(everything)
    ports = {name: number for name, number in several.contexts[B].ports.items() if name != "p13"}
    several.contexts[B] = replace(several.contexts[B], ports=ports)
    found = ask(several, "10.1.1.12")
    assert found.verdict == "dropped"
    assert found.text.endswith("on host b")


def test_a_host_that_is_not_connected() -> None:
    """If it fails: it is told as delivered what nobody has seen arrive."""
    found = ask(joined(), "10.1.1.12", known=False)
    assert found.verdict == "sent"
    assert found.text == "sent to host b, which is not connected, for o2 10.1.1.12:22"


def test_why_there_is_no_way() -> None:
    """If it fails: the user is not told what is missing."""
    without = joined([replace(o, tunnel_address=None) if isinstance(o, Host) else o for o in on_hosts()])
    assert ask(without, "10.1.1.12").text == "dropped: 10.1.1.12 is o2's: no way to host b"
    assert "not w3 (no way to host b)" in lines(ask(without, "100.1.1.1", 8080))
    dead = joined(dead=frozenset("b"))
    assert "not w3 (host b is down)" in lines(ask(dead, "100.1.1.1", 8080))
    emptied = [replace(o, draining_since=1.0) if isinstance(o, Host) and o.name == "b" else o for o in on_hosts()]
    draining = joined(emptied)
    assert "not w3 (host b is draining)" in lines(ask(draining, "100.1.1.1", 8080))


def test_many_providers_on_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails: each provider makes a trace slower than the one before; meanwhile the controller stands still."""
    compiled: Counter[tuple[int, Owner]] = Counter()

    def count(ctx: Context, owner: Owner) -> Program:
        compiled[ctx.dpid, owner] += 1
        return compile_owner(ctx, owner)

    monkeypatch.setattr(journey, "compile_owner", count)
    crowd = [
        endpoint(f"m{n}", "default", "web", 100 + n, f"10.1.1.{100 + n}", host="b", switch=0, labels=WEB)
        for n in range(30)
    ]
    ports = {A: PORTS_OF[A], B: {**PORTS_OF[B], **{e.port_name: e.number for e in crowd}}}
    found = ask(joined([*on_hosts(), *crowd], ports=ports), "100.1.1.1", 8080)
    assert len(found.ends) == 33
    assert {end.reply.verdict for end in found.ends if end.reply} == {"delivered"}
    assert set(compiled.values()) == {1}, "each switch is compiled once"
    assert (B, ("endpoint", "w1")) not in compiled, "which is not there"
