"""A whole Docker host of its own for tests: a network namespace with an Open vSwitch, a Docker Engine, a controller
and an agent in it. Nothing of the machine's own Docker or Open vSwitch is touched, so each part can be killed.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.machine import Machine, own_directory, run, wait_for

IMAGE = "netctl-busybox"
APPLETS = ("sh", "nc", "ip", "ping", "httpd", "wget", "sleep", "cat", "ls", "rm", "touch", "test", "true", "false")


class Node(Machine):
    """One host."""

    host = "agt-host"
    ends: tuple[str, ...] = ("agent", "controller", "dockerd", "containerd", "ovs-vswitchd", "ovsdb-server")

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(directory or own_directory())
        self.plugins = self.directory / "docker-run" / "plugins"
        self.docker_url = f"unix://{self.directory}/docker.sock"
        self.ovsdb = f"unix:{self.directory}/db.sock"
        self._agent_from = 0

    # Parts

    def prepare(self) -> None:
        """The namespace and the directories."""
        super().prepare()
        self.plugins.mkdir(parents=True)
        self.new_database()

    def new_database(self) -> None:
        """An empty database for Open vSwitch, in place of the one there is."""
        for name in ("conf.db", ".conf.db.~lock~"):
            (self.directory / name).unlink(missing_ok=True)
        run("ovsdb-tool", "create", f"{self.directory}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")

    def start_ovsdb(self) -> None:
        """Open vSwitch's database."""
        (self.directory / "db.sock").unlink(missing_ok=True)
        self.spawn("ovsdb-server", "ovsdb-server", f"{self.directory}/conf.db", f"--remote=p{self.ovsdb}")
        wait_for((self.directory / "db.sock").exists, "ovsdb-server's socket")
        self.vsctl("--no-wait", "init")

    def start_vswitchd(self) -> None:
        """The switch."""
        pidfile = self.directory / "ovs-vswitchd.pid"
        self.spawn("ovs-vswitchd", "ovs-vswitchd", self.ovsdb, f"--pidfile={pidfile}", "--overwrite-pidfile")
        self.vsctl("--timeout=20", "set", "Open_vSwitch", ".", "external_ids:started=yes")

    def start_containerd(self) -> None:
        """What runs Docker's containers, in a mount namespace whose ``/run/docker`` is the node's own: the folder of
        Docker's plugins is a fixed path."""
        directory = self.directory
        (directory / "containerd.sock").unlink(missing_ok=True)  # it also tells that the mount is made
        (directory / "containerd.toml").write_text(
            f'version = 2\nroot = "{directory}/containerd"\nstate = "{directory}/containerd-run"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{directory}/containerd.sock"\n'
        )
        own = f"mkdir -p /run/docker && mount --bind {directory}/docker-run /run/docker"
        command = f"{own} && exec containerd --config {directory}/containerd.toml"
        self.spawn("containerd", "unshare", "--mount", "sh", "-c", command)
        wait_for((directory / "containerd.sock").exists, "containerd")

    def start_docker(self, *options: str, live: bool = True, wait: bool = True) -> None:
        """Docker Engine; ``live``: its containers outlive it, as with `make run`."""
        (self.directory / "docker.pid").unlink(missing_ok=True)
        self.spawn(
            "dockerd",
            "nsenter",
            f"--mount=/proc/{self.processes['containerd'].pid}/ns/mnt",
            "dockerd",
            f"--containerd={self.directory}/containerd.sock",
            f"--data-root={self.directory}/data",
            f"--exec-root={self.directory}/exec",
            f"--pidfile={self.directory}/docker.pid",
            f"--host={self.docker_url}",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            *(["--live-restore"] if live else []),
            *options,
        )
        if wait:
            self.wait_for_docker()

    def wait_for_docker(self) -> None:
        """Until Docker answers."""
        wait_for(lambda: self.docker("ps", check=False), "dockerd", 60)

    def start_agent(self, *options: str, wait: bool = True) -> None:
        """The agent."""
        log = self.directory / "agent.log"
        self._agent_from = len(self.log("agent")) if log.exists() else 0
        self.spawn("agent", *self.agent_command(*options))
        if wait:
            self.wait_for_agent()

    def wait_for_agent(self) -> None:
        """Until the agent that was started last follows Docker and controller, and has told what there is."""

        def up() -> bool:
            said = self.log("agent")[self._agent_from :]
            return all(
                line in said
                for line in ("following Docker's events", "following the controller's changes", "told the controller")
            )

        wait_for(up, "the agent to be up")

    def agent_command(self, *options: str) -> Sequence[str]:
        """How the agent is called here."""
        return (
            sys.executable,
            "-m",
            "netctl.agent.main",
            f"--host={self.host}",
            f"--netmaster={self.rest_url}",
            f"--docker={self.docker_url}",
            f"--ovsdb={self.ovsdb}",
            f"--socket={self.plugins}/netctl.sock",
            f"--state-dir={self.directory}/agent",
            *options,
        )

    def start(self) -> None:
        """All of it."""
        self.prepare()
        self.start_ovsdb()
        self.start_vswitchd()
        self.start_containerd()
        self.start_docker()
        self.load_image()
        self.start_controller()
        self.start_agent()
        self.wait_for_agent()

    def start_missing(self) -> None:
        """Start again what a test has ended."""
        for start, name in (
            (self.start_ovsdb, "ovsdb-server"),
            (self.start_vswitchd, "ovs-vswitchd"),
            (self.start_docker, "dockerd"),
            (self.start_controller, "controller"),
            (self.start_agent, "agent"),
        ):
            if name in self.ends and name not in self.processes:
                start()

    # Tools

    def docker(self, *arguments: str, check: bool = True, timeout: float = 90) -> str:
        """The `docker` command."""
        return run("/usr/bin/docker", "-H", self.docker_url, *arguments, check=check, timeout=timeout).strip()

    def docker_error(self, *arguments: str, timeout: float = 90) -> str:
        """What `docker` says when it is refused."""
        done = subprocess.run(
            ["/usr/bin/docker", "-H", self.docker_url, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode, f"docker {' '.join(arguments)} was not refused: {done.stdout}"
        return done.stderr.strip()

    def compose(self, *arguments: str) -> None:
        """The `docker-compose` command, in directory ``project``."""
        done = subprocess.run(
            ["docker-compose", "-p", "my_prj", *arguments],
            cwd=self.directory / "project",
            env={**os.environ, "DOCKER_HOST": self.docker_url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not done.returncode, done.stderr

    def composed(self, service: str) -> str:
        """Names of the project's containers for a service, a line each: Compose's versions name them differently."""
        labels = ("com.docker.compose.project=my_prj", f"com.docker.compose.service={service}")
        return self.docker("ps", *(f"--filter=label={label}" for label in labels), "--format", "{{.Names}}")

    def vsctl(self, *arguments: str, check: bool = True) -> str:
        """The `ovs-vsctl` command."""
        return run("ovs-vsctl", f"--db={self.ovsdb}", *arguments, check=check).strip()

    def links(self) -> list[str]:
        """Names of the veths in the node's own namespace."""
        out = run(*self.inside("ip", "-o", "link", "show", "type", "veth"))
        return sorted(name for line in out.splitlines() if (name := line.split()[1].split("@")[0]).startswith("nv"))

    def ports(self) -> list[str]:
        """Ports of endpoints in the bridge."""
        return sorted(port for port in self.vsctl("list-ports", "br-netctl").split() if port.startswith("nv"))

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """The model's endpoints, by container name and network: ``NAME`` is enough where there is one."""
        found: dict[str, dict[str, Any]] = {}
        for doc in json.loads(self.rest("/api/v1/endpoints/")):
            name = doc.get("containerName", "")
            found[name] = doc
            found[f"{name}@{doc['networkName']}"] = doc
        return found

    def endpoint(self, name: str) -> dict[str, Any]:
        """One of them, as soon as there is one: a container's name comes with Docker's events, after its start."""
        wait_for(lambda: name in self.endpoints(), f"{name} to be listed")
        return self.endpoints()[name]

    def networks(self) -> dict[str, dict[str, Any]]:
        """The model's networks, by key."""
        return {doc["key"]: doc for doc in json.loads(self.rest("/api/v1/networks/"))}

    def docker_networks(self) -> set[str]:
        """Names of our driver's networks in Docker."""
        return set(self.docker("network", "ls", "--filter", "driver=netctl", "--format", "{{.Name}}").split())

    def container(self, name: str, network: str, *options: str) -> str:
        """Start a container that stays; its address there."""
        self.docker("run", "-d", "--name", name, f"--net={network}", *options, IMAGE, "sleep", "86400")
        return self.address(name, network)

    def address(self, name: str, network: str) -> str:
        """A container's address in a network, as Docker has it."""
        place = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
        return self.docker("inspect", name, "--format", place)

    def pings(self, name: str, address: str) -> bool:
        """Whether one ping from a container is answered."""
        return ", 0% packet loss" in self.docker("exec", name, "ping", "-c1", "-W1", address, check=False)

    def load_image(self) -> None:
        """A tiny image, of Debian's busybox-static."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add("/bin/busybox", "bin/busybox")
            for directory in ("tmp", "etc"):
                info = tarfile.TarInfo(directory)
                info.type, info.mode = tarfile.DIRTYPE, 0o777
                tar.addfile(info)
            for applet in APPLETS:
                info = tarfile.TarInfo(f"bin/{applet}")
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(info)
        subprocess.run(
            ["/usr/bin/docker", "-H", self.docker_url, "import", "--change", 'CMD ["sh"]', "-", IMAGE],
            input=archive.getvalue(),
            capture_output=True,
            check=True,
            timeout=60,
        )
