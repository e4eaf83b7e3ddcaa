"""etcd for tests: members of their own on loopback, which may be stopped, frozen and killed.

    with cluster(tmp_path, 3) as members:
        store = EtcdStore(url(members, "/test"))
        members[0].kill()
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.kit.controller import DIES_WITH_US, free_port
from tests.kit.ovs import wait_for


def command(name: str, data: Path, client: str, peer: str, members: str, *options: str) -> list[str]:
    """How a member is started: its URLs for clients and for the other members, ``members`` as etcd takes them."""
    return [
        "etcd", "--name", name, "--data-dir", str(data),
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", members, "--logger", "zap", "--log-level", "warn", "--unsafe-no-fsync", "--pre-vote",
        *options,
    ]  # fmt: skip


class Member:
    """One member. Ports and data stay the same from start to start."""

    def __init__(self, directory: Path, name: str, *options: str) -> None:
        """``options`` of etcd's; with ``--cert-file`` it speaks TLS to its clients."""
        self.name = name
        self._options = options
        self._scheme = "https" if "--cert-file" in options else "http"
        self.port = free_port()
        self.peer_port = free_port(but=self.port)
        self.cluster = ""
        self._directory = directory / name
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def peer(self) -> str:
        """What the other members know it by."""
        return f"http://127.0.0.1:{self.peer_port}"

    def start(self) -> None:
        """Start it; it answers only when most members do."""
        assert self._process is None, "it runs already"
        client = f"{self._scheme}://127.0.0.1:{self.port}"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *DIES_WITH_US,
                    *command(self.name, self._directory, client, self.peer, self.cluster, *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def healthy(self) -> bool:
        """Whether it takes requests, and so most members are there."""
        assert self._process is not None
        assert self._process.poll() is None, f"etcd ended: {self._log.read_text()[-2000:]}"
        with contextlib.suppress(OSError), urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/health", timeout=5
        ) as answer:
            return b'"true"' in answer.read()
        return False

    def kill(self) -> None:
        """By SIGKILL: its data stay."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(20)

    def freeze(self) -> None:
        """It keeps its connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and forget its data."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


@contextlib.contextmanager
def cluster(directory: Path, count: int = 1) -> Iterator[list[Member]]:
    """Members of one cluster, all healthy; ended at the end, whatever happens."""
    members = [Member(directory, f"m{number}") for number in range(count)]
    for member in members:
        member.cluster = ",".join(f"{m.name}={m.peer}" for m in members)
    try:
        for member in members:
            member.start()
        for member in members:
            wait_for(member.healthy, f"etcd {member.name} to be healthy")
        yield members
    finally:
        for member in members:
            member.close()


def url(members: Sequence[Member], prefix: str = "/netctl") -> str:
    """The store's URL that names all of them."""
    return f"etcd://{','.join(f'127.0.0.1:{m.port}' for m in members)}{prefix}"
