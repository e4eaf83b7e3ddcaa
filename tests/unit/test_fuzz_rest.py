"""Requests that are nearly right, by the thousand; ``python -m tests.fuzz.rest`` makes more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import rest as fuzz
from tests.fuzz.command import Fault, Target, resident
from tests.unit.manager_process import ports, running


@pytest.mark.parametrize("seed", [1, 74, 2611])
def test_nearly_right_requests(seed: int) -> None:
    """One of them would be answered by an internal error, or hold up all others."""
    became = fuzz.run(2500, seed)
    assert became["200"] > 300
    assert became["400"] > 200


def test_nearly_right_bytes(tmp_path: Path) -> None:
    """The same for what is no request at all, half of one or several: a controller would end, or its memory grow."""
    options, _, port = ports()
    with running(*options, "--store", str(tmp_path / "netctl.db"), "ryu_apps.controller") as manager:
        manager.wait_for("running ")
        before = resident(manager._process.pid)
        became = fuzz.connect(Target(f"127.0.0.1:{port}"), 5, 74, ["spared"])
        assert became["200"] > 20, became
        assert manager._process.poll() is None
        assert resident(manager._process.pid) - before < 100_000_000
        assert not [line for line in manager._queue.queue if line and "Traceback" in line]


def test_what_is_spared() -> None:
    """A run beside a service that is in use would end it."""
    spared = fuzz._Spared([b"default:web"])
    assert spared.touched(b"DELETE /api/v1/networks/default%3aweb/ HTTP/1.1\r\n\r\n")
    assert spared.touched(b'PUT /x HTTP/1.1\r\n\r\n{"key": "default:web"}')
    assert not spared.touched(b"DELETE /api/v1/networks/fuzz:f0/ HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nx\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nx\ny\n",
        b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{\n",
        b"<html>",
    ],
)
def test_what_is_a_fault(answer: bytes) -> None:
    """The fuzzer would find nothing."""
    with pytest.raises(Fault):
        fuzz.answers(b"GET / HTTP/1.1\r\n\r\n", answer, whole=True)
