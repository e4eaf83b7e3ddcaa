"""What Docker Engine answers, as far as the agent reads it: bounded in size, and of the types that it declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import requests

from netctl import reading
from netctl.agent.errors import AgentError
from topology.contract import expect

MAX_ANSWER = 256 << 20  # bytes: the list of a hundred thousand containers
MAX_EVENT = 1 << 20  # bytes
MAX_LABEL = 4096  # characters of a label's name and value
MAX_LABELS = 1 << 16  # characters of all labels of a container
MAX_NAME = 255  # characters of a container's name


class StrangeAnswer(AgentError):
    """Docker Engine answered what it never does."""

    def __init__(self, what: str) -> None:
        super().__init__(f"Docker's answer is not one of Docker's: {what}")


class _Listed(TypedDict):
    Id: str


class ListedContainer(_Listed, total=False):
    """A container, in the list of all."""

    Names: list[str] | None
    Labels: dict[str, str] | None
    State: str
    Status: str


class _State(TypedDict, total=False):
    Pid: int


class _Config(TypedDict, total=False):
    StopSignal: str | None
    StopTimeout: int | None


class _Attached(TypedDict, total=False):
    NetworkID: str
    IPAddress: str
    Gateway: str
    GlobalIPv6Address: str
    IPv6Gateway: str


class _Settings(TypedDict, total=False):
    SandboxKey: str
    Networks: dict[str, _Attached] | None


class InspectedContainer(TypedDict, total=False):
    """A container, inspected."""

    State: _State | None
    Config: _Config | None
    NetworkSettings: _Settings | None


class _Ipam(TypedDict, total=False):
    Driver: str
    Options: dict[str, str] | None
    Config: list[dict[str, Any]] | None


class _Endpoint(TypedDict, total=False):
    EndpointID: str
    MacAddress: str
    IPv4Address: str
    IPv6Address: str


class _Named(TypedDict):
    Id: str
    Name: str


class InspectedNetwork(_Named, total=False):
    """A network, inspected, or in the list of all."""

    Driver: str
    EnableIPv6: bool
    Internal: bool
    Options: dict[str, str] | None
    IPAM: _Ipam | None
    Containers: dict[str, _Endpoint] | None


class _Actor(TypedDict, total=False):
    ID: str
    Attributes: dict[str, str] | None


class Event(TypedDict, total=False):
    """One of Docker's events."""

    Type: str
    Action: str
    Actor: _Actor | None
    timeNano: int


def checked(answer: Any, kind: Any) -> Any:
    """The same answer, which is of that kind; else `StrangeAnswer`."""
    try:
        expect(kind, answer)
    except ValueError as error:
        raise StrangeAnswer(str(error)) from error
    return answer


class _Bounded:
    """A body that is not read any further than its limit."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, amount: int, decode_content: bool | None = None) -> Iterator[bytes]:
        """The body in pieces."""
        size = 0
        for piece in self._raw.stream(amount, decode_content=decode_content):
            size += len(piece)
            if size > MAX_ANSWER:
                self._raw.close()
                raise StrangeAnswer(f"it has more than {MAX_ANSWER} bytes")
            yield piece


def bound(response: requests.Response, **kwargs: Any) -> None:
    """A hook of a session: its answers are not read without an end, unless they are streams."""
    if not kwargs.get("stream"):
        response.raw = _Bounded(response.raw)


def events_of(response: requests.Response) -> Iterator[Any]:
    """Events as they come, a line each."""
    rest = b""
    for chunk in response.iter_content(chunk_size=1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_EVENT:
            raise StrangeAnswer(f"an event of more than {MAX_EVENT} bytes")
        for line in lines:
            if line.strip():
                yield checked(_loaded(line), Event)
    if rest.strip():
        yield checked(_loaded(rest), Event)


def _loaded(line: bytes) -> Any:
    try:
        return reading.load(line)
    except ValueError as error:
        raise StrangeAnswer(str(error)) from error


def fitting(labels: dict[str, str]) -> tuple[dict[str, str], int]:
    """The labels that are small enough to be told to the controller, and how many are not. The smallest come first."""
    kept, room = {}, MAX_LABELS
    for size, name in sorted((len(name) + len(value), name) for name, value in labels.items()):
        if size > min(room, MAX_LABEL):
            break
        kept[name] = labels[name]
        room -= size
    return {name: value for name, value in labels.items() if name in kept}, len(labels) - len(kept)
