"""A stand-in for the agent's Docker plugin, for `make down` only: agrees to all that takes something away.

Docker removes a network or an endpoint only when its driver agrees; with the agent gone nobody would.
Bridge, ports and veth pairs are taken down by `make down` itself.
"""

import json
import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler

REMOVALS = {
    "IpamDriver.ReleaseAddress",
    "IpamDriver.ReleasePool",
    "NetworkDriver.DeleteEndpoint",
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.DiscoverDelete",
    "NetworkDriver.Leave",
    "NetworkDriver.RevokeExternalConnectivity",
}
ANSWERS = {
    "Plugin.Activate": {"Implements": ["NetworkDriver", "IpamDriver"]},
    "NetworkDriver.GetCapabilities": {"Scope": "local"},
    "IpamDriver.GetCapabilities": {},
    "NetworkDriver.EndpointOperInfo": {"Value": {}},
}


class Handler(BaseHTTPRequestHandler):
    """One connection from Docker."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        call = self.path.removeprefix("/")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        refused = {"Err": "netctl is being taken down"}
        answer = {} if call in REMOVALS else ANSWERS.get(call, refused)
        body = json.dumps(answer).encode()
        self.send_response(500 if answer is refused else 200)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1.2+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: what is left behind is reported by `make down`."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Ends with the script that started it, however that ends."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.parent = os.getppid()

    def service_actions(self) -> None:
        if os.getppid() != self.parent:
            raise SystemExit


def main(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with Server(path) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
