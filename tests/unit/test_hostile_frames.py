"""Frames that a host, or a broken switch, makes up: each part that reads them reads or refuses them."""

from __future__ import annotations

import contextlib
import random
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from ryu_apps import answers, forgotten, learning, links
from ryu_apps.learning import BrokenPacketError
from ryu_apps.pipeline.context import Context
from tests.fuzz import frames as container
from tests.fuzz import openflow as fuzz
from tests.kit.world import DPID, PORTS, model
from topology.observed import Observed, Port
from topology.paths import End

CONTEXT = Context(model(), DPID, PORTS)
OBSERVED = Observed()
OBSERVED.connect(DPID, [Port(name, number, "02:00:00:00:00:01", up=True) for name, number in PORTS.items()])
GATEWAYS = (ip_address("10.1.1.254"), ip_address("fd00:1::fe"))


def read(frame: bytes, place: tuple[int, int], in_port: int) -> None:
    """Have it read by all that do."""
    switch = OBSERVED.switches[DPID]
    for what in (
        lambda: answers.refuse(frame),
        lambda: answers.expire(frame, *GATEWAYS),
        lambda: answers.report(frame, answers.HOST_UNREACHABLE, *GATEWAYS),
        lambda: list(forgotten.Forgotten().heard(CONTEXT, place[0], in_port, frame)),
        lambda: list(forgotten.resets_to_itself(CONTEXT, place[0], frame)),
        lambda: learning.seek(CONTEXT.model, OBSERVED, End(DPID, in_port), place, frame),
        lambda: learning.decide(CONTEXT.model, OBSERVED, switch, in_port, learning.parse(frame)),
        lambda: links.sender_of(frame, b"key"),
    ):
        with contextlib.suppress(BrokenPacketError):
            what()


@given(st.integers(0, 1 << 64))
def test_nearly_right_frames(seed: int) -> None:
    """One frame of a container would end the controller."""
    rng = random.Random(seed)
    place = rng.choice((0, 1, 2, 1 << 31)), rng.choice((0, 1, 2, 1 << 31))
    read(fuzz.frame(rng), place, rng.choice((0, 1, 2, 0xFFFFFFFE)))


@given(st.binary(max_size=120))
def test_anything_at_all(frame: bytes) -> None:
    """The same, for what is not like a frame."""
    read(frame, (1, 1), 1)


def test_many_nearly_right_frames() -> None:
    """The same, many of them."""
    rng = random.Random(74)
    for _ in range(5000):
        read(fuzz.frame(rng), (rng.randrange(3), rng.randrange(4)), rng.randrange(4))


def test_many_frames_of_a_container() -> None:
    """The same, for what a container makes up that knows its neighbours; `python -m tests.fuzz.frames` sends them."""
    for seed in (1, 74, 2611):
        rng = random.Random(seed)
        for _ in range(3000):
            _, frame = container.frame(rng, container.Stage())
            read(frame, (rng.randrange(3), rng.randrange(4)), rng.randrange(4))
