"""How many connections to Docker the agent keeps."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from netctl.agent.docker_api import Docker
from tests.unit.agent_kit import wait_for


class _Answers(http.server.BaseHTTPRequestHandler):
    """Every path is a network."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = {"ApiVersion": "1.41"} if self.path.endswith("/version") else {"Id": "a" * 64, "Name": "n"}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "agent"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    now = 0

    def process_request_thread(self, request: object, client_address: object) -> None:
        self.now += 1
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self.now -= 1


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[_Server, str]]:
    """A Docker, and its URL."""
    path = tmp_path / "docker.sock"
    with _Server(str(path), _Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server, f"unix://{path}"
        server.shutdown()


def test_one_connection_for_each_network_is_too_many(engine: tuple[_Server, str]) -> None:
    """The agent and Docker would each keep a hundred connections, with a thread of Docker's and buffers for each."""
    server, url = engine
    docker = Docker(url, "netctl")
    for number in range(30):
        assert docker.network(f"{number:064x}")["Name"] == "n"
    wait_for(lambda: server.now <= 4, "those to end that are not kept")
    docker._local.client.close()
