"""A small controller over real HTTP: keeps documents, refuses what the real one refuses, streams changes."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

NAME_FIELDS = {
    "tenants": ("tenantName",),
    "networks": ("tenantName", "networkName"),
    "serviceLBs": ("tenantName", "serviceName"),
    "endpoints": ("endpointID",),
    "hosts": ("hostName",),
    "switches": ("dpid",),
    "controllers": ("url",),
    "leases": ("tenantName", "networkName", "ipAddress"),
}
KINDS = {"tenants": "tenant", "networks": "network", "serviceLBs": "service", "endpoints": "endpoint"}
PORT = re.compile(r"\d+:\d+:(tcp|udp)", re.IGNORECASE)


class Refusal(Exception):
    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class FakeController:
    """Its URL is ``url``; ``seen`` are the requests that came: method, path as sent, headers, body."""

    def __init__(self) -> None:
        self.docs: dict[str, dict[str, dict[str, Any]]] = {c: {} for c in NAME_FIELDS}
        self.docs["tenants"]["default"] = {"key": "default", "tenantName": "default"}
        self.flows: dict[str, Any] = {"flows": [], "more": 0, "learned": 0}
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        self.connections: set[Any] = set()
        self.log: list[dict[str, Any]] = []
        self.oldest = 0  # changes up to this revision are compacted
        self.changed = threading.Condition()
        self.cut = threading.Event()
        self.raw: bytes | None = None  # answer this, whatever was asked
        self.redirect = ""  # where the change stream is
        self.delay = threading.Event()  # set: answer nothing until `cut`
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without this, the headers' packet waits for the acknowledgement of the one before it.
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: the tests read what they need from `seen`."""

            def do_GET(self) -> None:
                fake.handle(self)

            do_PUT = do_POST = do_DELETE = do_GET

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that has gone is no news; printed, it would be taken for what the command says."""
                if not isinstance(sys.exc_info()[1], ConnectionError):
                    super().handle_error(request, client_address)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> FakeController:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def handle(self, http: BaseHTTPRequestHandler) -> None:
        length = int(http.headers.get("Content-Length") or 0)
        body = json.loads(http.rfile.read(length)) if length else None
        self.seen.append((http.command, http.path, dict(http.headers), body))
        self.connections.add(http.client_address)
        if self.delay.is_set():
            self.cut.wait(30)
        url = urlsplit(http.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        parts = [unquote(p) for p in url.path.strip("/").split("/")]
        try:
            if parts == ["api", "v1", "changes"] and self.redirect:
                http.send_response(307)
                http.send_header("Location", self.redirect + http.path)
                http.send_header("Content-Length", "0")
                http.end_headers()
                return
            if parts == ["api", "v1", "changes"] and self.raw is None:
                self.stream(http, query)
                return
            answer = json.dumps(self.answer(http.command, parts, query, body)).encode()
            status, kind = 200, "application/json"
        except Refusal as refusal:
            answer, status, kind = f"{refusal}\n".encode(), refusal.status, "text/plain; charset=utf-8"
        if self.raw is not None:
            answer, status = self.raw, 200
        http.send_response(status)
        http.send_header("Content-Type", kind)
        http.send_header("Content-Length", str(len(answer)))
        http.end_headers()
        http.wfile.write(answer)

    def answer(self, method: str, parts: list[str], query: dict[str, str], body: Any) -> Any:
        match parts:
            case ["version"]:
                return {"GitCommit": "", "Version": "9.9.9", "BuildTime": ""}
            case ["api", "v1", "inspect", "endpoints", part] if method == "GET":
                found = [d for d in self.docs["endpoints"].values() if part in str(d)]
                if len(found) != 1:
                    raise Refusal(409 if found else 404, f"endpoint {part} matches {len(found)}")
                return {"Oper": found[0]}
            case ["api", "v1", "inspect", collection, key] if method == "GET":
                return {"Config": self.get(collection, key), "Oper": {"numEndpoints": 1}}
            case ["api", "v1", "subnets"] if method == "POST":
                return {"subnet": "10.224.0.0/24"}
            case ["api", "v1", "leases"] if method == "POST":
                address = body["ipAddress"] or "10.1.1.1"
                key = f"{body['tenantName']}:{body['networkName']}:{address}"
                self.docs["leases"][key] = body
                return {"ipAddress": f"{address}/24", "key": key}
            case ["api", "v1", "hosts", host, "endpoints"] if method == "PUT":
                self.get("hosts", host)
                self.docs["endpoints"] |= {d["endpointID"]: d for d in body["endpoints"]}
                return {"revision": 7}
            case ["api", "v1", "hosts", host, "drain"] if method in ("PUT", "DELETE"):
                self.get("hosts", host)["draining"] = method == "PUT"
                return self.get("hosts", host)
            case ["api", "v1", "hosts", host, "applied"] if method == "PUT":
                self.get("hosts", host).update(applied=body)
                return {}
            case ["api", "v1", "endpoints", key, "checks"] if method == "PUT":
                return self.get("endpoints", key) | {"passed": [k for k, passes in body.items() if passes]}
            case ["api", "v1", "switches", _, "flows"] if method == "GET":
                return self.flows
            case ["api", "v1", collection] if collection in self.docs and method == "GET":
                return list(self.docs[collection].values())
            case ["api", "v1", collection, key] if collection in self.docs:
                return self.one(method, collection, key, query, body)
        raise Refusal(404, f"no such path: {method} /{'/'.join(parts)}")

    def one(self, method: str, collection: str, key: str, query: dict[str, str], body: Any) -> Any:
        if method == "GET":
            return self.get(collection, key)
        if method == "DELETE":
            self.get(collection, key)
            tenant, _, name = key.partition(":")
            users = [s for s in self.docs["serviceLBs"].values() if s["tenantName"] == tenant]
            using = sum(s["networkName"] == name for s in users)
            if collection == "networks" and using:
                raise Refusal(409, f"cannot delete {name}: it has {using} services")
            del self.docs[collection][key]
            return key
        fields = NAME_FIELDS[collection]
        if tuple(body[f] for f in fields) != tuple(key.split(":", len(fields) - 1)):
            raise Refusal(400, f"key {key}: body and path disagree")
        self.check(collection, key, body)
        if not query.get("dryRun"):
            self.docs[collection][key] = {"key": key, **body}
        return {"key": key, **body}

    def check(self, collection: str, key: str, body: dict[str, Any]) -> None:
        tenant = body.get("tenantName", "default")
        if collection != "tenants" and tenant not in self.docs["tenants"]:
            raise Refusal(404, f"Tenant {tenant} not found")
        if collection == "networks":
            old = self.docs["networks"].get(key)
            if old and old != {"key": key, **body}:
                raise Refusal(409, "Cant change network parameters after its created")
        if collection == "serviceLBs":
            if f"{tenant}:{body['networkName']}" not in self.docs["networks"]:
                raise Refusal(404, f"Network {body['networkName']} not found")
            for port in body["ports"]:
                if not PORT.fullmatch(port):
                    raise Refusal(422, "Invalid port mapping. Port format is - Port:TargetPort:Protocol")

    def get(self, collection: str, key: str) -> dict[str, Any]:
        if key not in self.docs.get(collection, {}):
            raise Refusal(404, f"{KINDS.get(collection, collection).capitalize()} {key} not found")
        return self.docs[collection][key]

    def change(self, kind: str, key: str, value: dict[str, Any] | None) -> None:
        """One more revision for those that follow."""
        with self.changed:
            self.log.append({"revision": len(self.log) + 1, "kind": kind, "key": key, "object": value})
            self.changed.notify_all()

    def stream(self, http: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        since = int(query.get("since", self.oldest))
        if not self.oldest <= since <= len(self.log):
            raise Refusal(410, f"revision {since} is not in the change log")
        http.send_response(200)
        http.send_header("Transfer-Encoding", "chunked")
        http.end_headers()
        for data in self.lines(since):
            for piece in (data[:7], data[7:]):  # chunks and lines are not the same thing
                http.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        http.wfile.write(b"0\r\n\r\n")

    def lines(self, since: int) -> Iterator[bytes]:
        sent, synced = since, False
        while not self.cut.is_set():
            with self.changed:
                fresh = self.log[sent:]
                if not fresh and synced:
                    self.changed.wait(0.02)
            sent += len(fresh)
            extra = [] if synced and fresh else [{"revision": sent, "kind": "alive" if synced else "sync"}]
            synced = True
            for line in fresh + extra:
                yield json.dumps(line).encode() + b"\n"
