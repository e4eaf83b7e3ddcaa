"""Whatever answers in Docker's place, and whatever a container is called: one line, and the agent goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netctl.agent import docker_answers as module
from netctl.agent.docker_api import Docker, DockerGone, DockerRefused, container_of, network_of, signal_number
from netctl.agent.errors import AgentError
from netctl.agent.listing import endpoints_of
from netctl.agent.state import Container, LocalEndpoint, State
from tests.unit.hostile import HEAD, Hostile, chunked, endless, whole, within
from tests.unit.test_agent_state import network
from tests.unit.test_hostile_controller import JSON, peak

MIB = 1 << 20
CALLS: dict[str, Callable[[Docker], object]] = {
    "networks": Docker.networks,
    "network": lambda d: d.network("n"),
    "containers": Docker.containers,
    "pid": lambda d: d.pid("c"),
    "inside": lambda d: d.inside("c"),
    "stopping": lambda d: d.stopping("c"),
    "last_signals": lambda d: d.last_signals(60),
    "events": lambda d: list(d.events()),
    "remove_network": lambda d: d.remove_network("n"),
}


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


def docker(hostile: Hostile) -> Docker:
    """Docker, after its version is negotiated."""
    made = Docker(hostile.url.replace("http", "tcp"), "netctl")
    hostile.answer = lambda: [whole({"ApiVersion": "1.41"})]
    made._ask(lambda client: client.version())
    return made


def refused(call: Callable[[Docker], object], by: Docker) -> str:
    """The one line that it ends in."""
    with pytest.raises(AgentError) as caught:
        call(by)
    line = str(caught.value)
    assert line.isprintable() and len(line) <= 500
    return line


@pytest.mark.parametrize(
    ("call", "answer", "line"),
    [
        ("containers", {}, "a list, not an object"),
        ("containers", [{"Names": ["x"]}], "[0].Id is missing"),
        ("containers", [{"Id": "c", "Names": "web"}], "[0].Names: a list"),
        ("containers", [{"Id": "c", "Labels": ["a"]}], "[0].Labels: an object"),
        ("containers", [{"Id": "c", "Labels": {"a": None}}], "[0].Labels.a: a string"),
        ("networks", [None], "[0]: an object, not null"),
        ("network", {"Id": "n"}, "Name is missing"),
        ("network", {"Id": "n", "Name": "n", "IPAM": []}, "IPAM: an object"),
        ("network", {"Id": "n", "Name": "n", "Containers": {"c": 7}}, "Containers.c: an object"),
        ("network", {"Id": "n", "Name": "n", "Options": {"tenant": 7}}, "Options.tenant: a string"),
        ("pid", {"State": {"Pid": "7"}}, "State.Pid: a whole number"),
        ("inside", {"NetworkSettings": {"Networks": []}}, "NetworkSettings.Networks: an object"),
        ("stopping", {"Config": {"StopTimeout": {}}}, "Config.StopTimeout: a whole number"),
        ("pid", b"[" * 50_000 + b"]" * 50_000, "nested too deeply"),
    ],
)
def test_an_answer_that_docker_never_gives(hostile: Hostile, call: str, answer: object, line: str) -> None:
    """A thread of the agent would die of it, and the agent with it, at every start."""
    here = docker(hostile)
    hostile.answer = lambda: [whole(answer)]
    assert line in refused(CALLS[call], here)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (b"[]", "an object, not a list"),
        (b'{"Actor": 7}', "Actor: an object"),
        (b'{"Actor": {"Attributes": []}}', "Actor.Attributes: an object"),
        (b'{"timeNano": "x"}', "timeNano: a whole number"),
        (b'{"Action": null}', "Action: a string"),
        (b"{", "not JSON"),
        (b"[" * 10_000, "levels deep"),
    ],
)
def test_an_event_that_docker_never_sends(hostile: Hostile, event: bytes, line: str) -> None:
    """The agent would not see any container start or die any more."""
    here = docker(hostile)
    hostile.answer = lambda: chunked([event + b"\n"])
    for call in ("events", "last_signals"):
        assert line in refused(CALLS[call], here)


@pytest.mark.parametrize("what", ["list", "event", "refusal"])
def test_an_answer_without_an_end(hostile: Hostile, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's memory would be gone."""
    monkeypatch.setattr(module, "MAX_ANSWER", 4 * MIB)
    here, piece = docker(hostile), b" " * 65536
    hostile.answer = {
        "list": lambda: chain([HEAD + b"Content-Length: 99999999999\r\n\r\n"], endless(piece)),
        "event": lambda: chunked(endless(piece)),
        "refusal": lambda: chain([b"HTTP/1.1 500 x\r\n\r\n"], endless(piece)),
    }[what]
    before = peak()
    with within(10):
        assert "more than" in refused(CALLS["events" if what == "event" else "containers"], here)
    assert peak() - before < 48 * MIB


def test_events_are_read_as_they_come(hostile: Hostile) -> None:
    """A container's death would be known only with the next one's."""
    here = docker(hostile)
    events = [json.dumps({"Type": "container", "Action": "die", "Actor": {"ID": str(n)}}).encode() for n in range(3)]

    def pieces() -> Iterator[bytes]:
        yield events[0] + b"\n" + events[1][:9]
        yield events[1][9:] + b"\n"
        yield events[2] + b"\n"

    hostile.answer = lambda: chunked(pieces())
    stream = here.events()
    assert [next(stream)["Actor"]["ID"] for _ in events] == ["0", "1", "2"]
    with pytest.raises(DockerGone, match="ended"):
        next(stream)


def test_a_refusal_in_many_lines(hostile: Hostile) -> None:
    """Docker's words, with a container's name in them, could pass for lines of the agent's log."""
    here = docker(hostile)
    hostile.answer = lambda: [whole({"message": "a\nCRITICAL b\x1b[2J" * 100}, "409 Conflict")]
    refused(CALLS["remove_network"], here)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_answer(hostile: Hostile, data: st.DataObject) -> None:
    """Some answer that nobody thought of would end the agent."""
    here = docker(hostile)
    names = ("Id", "Name", "Names", "Labels", "Driver", "IPAM", "Options", "Containers", "State", "Config", "Actor",
             "NetworkSettings", "Networks", "Action", "Type", "timeNano", "Subnet", "EnableIPv6", "Pid")  # fmt: skip
    fields = st.dictionaries(st.sampled_from(names), JSON | st.dictionaries(st.sampled_from(names), JSON), max_size=6)
    answer = data.draw(JSON | fields | st.lists(fields, max_size=2))
    hostile.answer = lambda: [whole(json.dumps(answer).encode() + b"\n")]
    call = data.draw(st.sampled_from(sorted(CALLS)))
    try:
        found = CALLS[call](here)
    except (DockerGone, DockerRefused) as error:
        assert str(error).isprintable()
        return
    if call == "network":
        assert isinstance(found, dict)
        network_of(found, "netctl")
        endpoints_of(found)


@pytest.mark.parametrize("name", ["9" * 5000, "SIGRTMIN+" + "9" * 5000, "٣", "SIG", "\x1b", "-1"])
def test_a_signal_that_is_none(name: str) -> None:
    """An image says what its stop signal is, and could end the agent by it."""
    assert 0 <= signal_number(name) < 1000


def test_labels_that_are_too_large() -> None:
    """A container with a label of a megabyte would not get into the model, and its host's whole list be refused."""
    labels = {"app": "shop", "big": "x" * MIB, "tier": "web"}
    found = container_of({"Id": "c", "Names": ["/" + "n" * MIB], "Labels": labels})
    assert (found.labels, found.left_out, len(found.name)) == ({"app": "shop", "tier": "web"}, 1, 255)
    many = {f"l{n}": "y" * 1000 for n in range(2000)} | {"app": "shop"}
    found = container_of({"Id": "c", "Names": ["/web"], "Labels": many})
    assert found.labels["app"] == "shop"
    assert sum(len(k) + len(v) for k, v in found.labels.items()) <= 1 << 16
    assert found.left_out == len(many) - len(found.labels) > 0
    state = State("h")
    state.set_network(network())
    state.put_endpoint(LocalEndpoint("e", network().id, next(network().subnet.hosts()), "m", "c"))
    state.set_container(found)
    document = state.document("e")
    assert document is not None and len(json.dumps(document)) < MIB // 8
    (about, line) = next(iter(state.large_labels().items()))
    assert (about, line) == ("labels of container web", f"{found.left_out} of them are too large and count as absent")
    for n in range(100):
        state.set_container(Container(f"c{n}", f"a\x1b{n}", left_out=1))
    assert len(state.large_labels()) == 20
    assert all(about.isprintable() for about in state.large_labels())
