"""`scripts/engine.py`, by which the scripts ask Docker Engine without the command `docker`."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from tests.kit.controller import ROOT

ID, OTHER = "a" * 64, "b" * 64


class Engine(ThreadingMixIn, UnixStreamServer):
    """Answers what it is told to; ``seen``: what it was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.seen: list[tuple[str, str, bytes]] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size + 2)[:-2]
                    self.rfile.readline()
                engine.seen.append((self.command, self.path, body))
                status, answer = engine.answers.get(self.path.partition("?")[0], (404, {"message": "no such thing"}))
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_DELETE = do_GET

            def address_string(self) -> str:
                return "script"

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        super().__init__(str(path), Handler)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "docker.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def ask(path: Path, *arguments: str, given: bytes = b"", url: str = "") -> tuple[int, str, str]:
    """Status, and what is said."""
    done = subprocess.run(
        [sys.executable, f"{ROOT}/scripts/engine.py", "--timeout=0.5", *arguments],
        env={"DOCKER_HOST": url or f"unix://{path}/docker.sock"},
        input=given, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode().replace(str(path), "")


def test_why_there_is_no_answer(tmp_path: Path) -> None:
    """A user would be told "no Docker daemon" for each of these, and look in the wrong place."""
    assert ask(tmp_path, "version") == (1, "", "no Docker daemon runs: /docker.sock is not there\n")
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "docker.sock"))
        gone = "no Docker daemon serves /docker.sock, which one that has ended has left\n"
        assert ask(tmp_path, "version") == (1, "", gone)
        daemon.listen()
        frozen = "the Docker daemon at /docker.sock does not answer within 0.5 s\n"
        assert ask(tmp_path, "version") == (1, "", frozen)
    status, _, line = ask(tmp_path, "version", url="tcp://10.0.0.1:2375")
    assert status == 1 and "is not the URL of a Unix socket, such as unix:///run/docker.sock" in line


@pytest.mark.parametrize(
    ("status", "answer", "line"),
    [
        (500, {"message": "driver failed\nbadly"}, "driver failed badly"),
        (500, b"", "HTTP status 500"),
        (200, b"{not json", "/docker.sock answers what is not JSON: is it Docker's?"),
        (200, [], "/docker.sock answers what Docker would not: is it Docker's?"),
        (200, {"Version": None}, "/docker.sock answers what Docker would not: is it Docker's?"),
    ],
)
def test_an_answer_that_is_none(tmp_path: Path, engine: Engine, status: int, answer: Any, line: str) -> None:
    """Instead of a line there would be a traceback, or a version of nonsense."""
    engine.answers["/version"] = (status, answer)
    assert ask(tmp_path, "version") == (1, "", line + "\n")


def test_what_is_listed(tmp_path: Path, engine: Engine) -> None:
    """`make down` would remove what is not ours, or leave what is."""
    named = [{"Id": ID, "Names": ["/netctl-demo-1"]}, {"Id": OTHER, "Names": ["/netctl-demo-10"]}]
    networks = [{"Id": ID, "Driver": "netctl"}, {"Id": OTHER, "Driver": "bridge"}]
    engine.answers |= {"/containers/json": (200, named), "/networks": (200, networks)}
    assert ask(tmp_path, "containers", "netctl-demo-1") == (0, f"{ID}\n", "")
    assert ask(tmp_path, "running") == (0, f"{ID}\n{OTHER}\n", "")
    assert ask(tmp_path, "networks", "netctl") == (0, f"{ID}\n", "")
    assert ask(tmp_path, "remove", "containers", ID) == (0, "", ""), "one that is gone is fine"
    assert ask(tmp_path, "image", "x") == (1, "", "no such thing\n")


def test_an_image_that_is_refused(tmp_path: Path, engine: Engine) -> None:
    """The walk-through would go on without an image: its status is sent before the archive is read."""
    said = b'{"status":"..."}\r\n{"errorDetail":{},"error":"no space left on device"}\r\n'
    engine.answers["/images/create"] = (200, said)
    assert ask(tmp_path, "import", "demo", 'CMD ["sh"]', given=b"archive") == (1, "", "no space left on device\n")
    assert engine.seen[-1][2] == b"archive"
    assert "repo=demo" in engine.seen[-1][1] and "changes=CMD+%5B%22sh%22%5D" in engine.seen[-1][1]
