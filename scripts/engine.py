"""What the scripts ask of Docker Engine, by its API: the command `docker` is a package of its own that may be missing.

The engine is the one of DOCKER_HOST, a Unix socket. A failure is one line on standard error and exit status 1.
"""

import argparse
import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import quote, urlencode

DEFAULT = "unix:///run/docker.sock"
NOT_FOUND, REFUSED = 404, 400
STOP = 5  # s that a container may take to end by itself


class EngineError(Exception):
    """What went wrong, in one line."""

    def __init__(self, line: str, status: int = 0) -> None:
        super().__init__(" ".join(line.split()))
        self.status = status


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Reach the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    """Docker Engine at a URL."""

    def __init__(self, url: str, timeout: float) -> None:
        self.path = url.removeprefix("unix://")
        self.timeout = timeout
        if not url.startswith("unix:///"):
            raise EngineError(f"DOCKER_HOST {url!r} is not the URL of a Unix socket, such as {DEFAULT}")

    def ask(self, method: str, path: str, body: IO[bytes] | bytes | None = None, kind: str = "application/json") -> Any:
        """The engine's answer; `EngineError` says why there is none."""
        connection = Connection(self.path, self.timeout)
        try:
            connection.request(method, path, body, {"Content-Type": kind}, encode_chunked=hasattr(body, "read"))
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        except FileNotFoundError:
            raise EngineError(f"no Docker daemon runs: {self.path} is not there") from None
        except ConnectionRefusedError:
            raise EngineError(f"no Docker daemon serves {self.path}, which one that has ended has left") from None
        except TimeoutError:
            raise EngineError(f"the Docker daemon at {self.path} does not answer within {self.timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"the Docker daemon at {self.path} does not answer: {error!r}") from None
        finally:
            connection.close()
        try:
            found = json.loads(content) if content.startswith((b"{", b"[")) and kind == "application/json" else content
        except ValueError:
            raise EngineError(f"{self.path} answers what is not JSON: is it Docker's?") from None
        if status >= REFUSED:
            line = found.get("message") if isinstance(found, dict) else content.decode(errors="replace")
            raise EngineError(str(line or f"HTTP status {status}"), status)
        return found

    def strange(self) -> EngineError:
        """An answer of another form."""
        return EngineError(f"{self.path} answers what Docker would not: is it Docker's?")

    def object(self, path: str) -> dict[str, Any]:
        """The object there."""
        found = self.ask("GET", path)
        if not isinstance(found, dict):
            raise self.strange()
        return found

    def listing(self, path: str) -> list[dict[str, Any]]:
        """The list there, of objects with an id."""
        found = self.ask("GET", path)
        if not (isinstance(found, list) and all(isinstance(item, dict) and "Id" in item for item in found)):
            raise self.strange()
        return found

    def version(self) -> Iterator[str]:
        """Its version."""
        found = self.object("/version").get("Version")
        if not isinstance(found, str):
            raise self.strange()
        yield found

    def containers(self, names: list[str], running: bool = False) -> Iterator[str]:
        """Ids of all containers, or of those of these names; ``running``: of those that run."""
        for item in self.listing(f"/containers/json?all={int(not running)}"):
            if not names or {str(name).removeprefix("/") for name in item.get("Names") or ()} & set(names):
                yield str(item["Id"])

    def networks(self, driver: str) -> Iterator[str]:
        """Ids of a driver's networks."""
        for item in self.listing("/networks?" + urlencode({"filters": json.dumps({"driver": [driver]})})):
            if item.get("Driver") == driver:
                yield str(item["Id"])

    def attached(self, network: str) -> Iterator[str]:
        """Ids of the containers in a network."""
        yield from self.object(f"/networks/{quote(network)}").get("Containers") or ()

    def disconnect(self, network: str, container: str) -> None:
        """Take a container out of a network, whatever its driver says."""
        wish = json.dumps({"Container": container, "Force": True}).encode()
        self.ask("POST", f"/networks/{quote(network)}/disconnect", wish)

    def remove(self, what: str, name: str) -> None:
        """Remove a container, a network or an image; one that is gone is fine."""
        options = "?force=1" if what != "networks" else ""
        try:
            self.ask("DELETE", f"/{what}/{quote(name)}{options}")
        except EngineError as error:
            if error.status != NOT_FOUND:
                raise

    def stop(self, container: str) -> None:
        """Stop a container."""
        self.ask("POST", f"/containers/{quote(container)}/stop?t={STOP}", b"")

    def load(self, name: str, changes: list[str], archive: IO[bytes]) -> None:
        """An image out of an archive of its files."""
        query = [("fromSrc", "-"), ("repo", name), ("tag", "latest"), *(("changes", change) for change in changes)]
        said = self.ask("POST", f"/images/create?{urlencode(query)}", archive, "application/x-tar")
        for line in said.splitlines():  # its status was sent before it read the archive
            if b'"error"' in line:
                raise EngineError(str(json.loads(line)["error"]))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="engine.py", description=__doc__.splitlines()[0])
    top.add_argument("--timeout", type=float, default=4.0, help="seconds for each answer")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("version", help="print it")
    for name, what in (("containers", "ids of all, or of those of these names"), ("running", "ids of those that run")):
        commands.add_parser(name, help=what).add_argument("names", nargs="*")
    commands.add_parser("networks", help="ids of a driver's").add_argument("driver")
    commands.add_parser("attached", help="ids of containers in a network").add_argument("network")
    disconnect = commands.add_parser("disconnect", help="a container from a network, by force")
    disconnect.add_argument("network")
    disconnect.add_argument("container")
    commands.add_parser("stop", help="containers").add_argument("names", nargs="+")
    remove = commands.add_parser("remove", help="containers, networks or images, by force")
    remove.add_argument("what", choices=["containers", "networks", "images"])
    remove.add_argument("names", nargs="+")
    commands.add_parser("image", help="whether it is there").add_argument("name")
    load = commands.add_parser("import", help="an image out of the archive on standard input")
    load.add_argument("name")
    load.add_argument("changes", nargs="*", help='as in a Dockerfile: CMD ["sh"]')
    return top


def carry_out(engine: Engine, asked: argparse.Namespace) -> Iterator[str]:
    """The command; yields the lines that it prints."""
    match asked.command:
        case "version":
            yield from engine.version()
        case "containers" | "running":
            yield from engine.containers(asked.names, asked.command == "running")
        case "networks":
            yield from engine.networks(asked.driver)
        case "attached":
            yield from engine.attached(asked.network)
        case "disconnect":
            engine.disconnect(asked.network, asked.container)
        case "stop":
            for name in asked.names:
                engine.stop(name)
        case "remove":
            for name in asked.names:
                engine.remove(asked.what, name)
        case "image":
            engine.ask("GET", f"/images/{quote(asked.name)}/json")
        case "import":
            engine.load(asked.name, asked.changes, sys.stdin.buffer)


def main() -> int:
    """The script."""
    asked = parser().parse_args()
    try:
        for line in carry_out(Engine(os.environ.get("DOCKER_HOST", DEFAULT), asked.timeout), asked):
            print(line)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
