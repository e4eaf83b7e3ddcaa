"""The command ``netctl-agent``: options, the parts put together, signals."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource

from netctl import __version__
from netctl.agent import heaps
from netctl.agent.bridge import Bridge
from netctl.agent.checks import Checks
from netctl.agent.closed import Names, of_options
from netctl.agent.daemons import Daemons
from netctl.agent.docker_api import Docker
from netctl.agent.driver import Driver
from netctl.agent.engine_watch import EngineWatch
from netctl.agent.errors import AgentError, StartError
from netctl.agent.events import Follower
from netctl.agent.ipam import Ipam
from netctl.agent.limits import Limits
from netctl.agent.memory import Memory
from netctl.agent.networks import Networks
from netctl.agent.options import CONFIG_FILE, CONNECTIONS, TIMEOUTS, Options, default_host, made_of, read_config
from netctl.agent.outside import Outside
from netctl.agent.ovsdb import Ovsdb
from netctl.agent.plugin import PluginServer
from netctl.agent.ports import Ports
from netctl.agent.registry import Registry
from netctl.agent.state import State
from netctl.agent.sync import Synchroniser
from netctl.agent.tunnel import Tunnel
from netctl.agent.ways import Ways
from netctl.agent.zones import Zones
from netctl.client import DEFAULT_URL
from topology import private
from topology.heartbeat import PERIOD, Heartbeat
from topology.reports import HostDoc
from topology.text import OneLine

LOG = logging.getLogger("netctl.agent")
SECONDS = click.IntRange(*TIMEOUTS)
STOP_TIMEOUT = 3.0  # s for what is still to be told to the controller


class Agent:
    """All parts of the agent of one host."""

    def __init__(self, options: Options, fail: Callable[[str], None]) -> None:
        self._options = options
        self._bridge = Bridge(
            Ovsdb(options.ovsdb), options.bridge, options.host, options.controller, options.datapath_type
        )
        self._state = state = State(options.host)
        state.own_control = of_options(options)
        docker = Docker(options.docker, options.driver)
        memory = Memory(options.state_dir, state)
        memory.load()
        self._sync = Synchroniser(options.netmaster, state, self._host)
        self._registry = Registry(options.netmaster, state, docker, self._sync, memory)
        self._networks = Networks(options.netmaster, state, docker, self._sync, self._registry)
        self._registry.refused_withdrawal = self._networks.reconcile
        tunnel = Tunnel(self._bridge, options.tunnel_address, state, self._networks.troubles_changed)
        zones = Zones(self._bridge, options.timeouts, state, self._networks.troubles_changed)
        limits = Limits(
            self._bridge, options.ovsdb, options.tenant_connections, state, self._networks.troubles_changed
        )
        self._ports = Ports(self._bridge, state, tunnel, zones, limits)
        self._networks.switch_changed = self._ports.look
        self._ways = Ways(state, docker, self._sync.endpoint, self._networks.troubles_changed)
        self._networks.network_changed = self._ways.network_changed
        self._networks.networks_known = self._ways.networks_known
        self._follower = Follower(
            state=state,
            docker=docker,
            sync=self._sync,
            registry=self._registry,
            networks=self._networks,
            ports=self._ports,
            memory=memory,
            ways=self._ways,
        )
        self._watch = EngineWatch(docker, state, self._networks.troubles_changed)
        self._checks = Checks(state, self._sync, docker)
        self._outside = Outside(options.bridge, state, options.state_dir, self._networks.troubles_changed)
        self._names = Names(state, self._networks.troubles_changed)
        self._daemons = Daemons(options.ovsdb, state, options.state_dir, self._networks.troubles_changed)
        ipam = Ipam(state, self._sync)
        driver = Driver(state, self._sync, self._ports, ipam, self._ways)
        self._plugin = PluginServer(options.socket, {**driver.calls(), **ipam.calls()}, fail)
        self._ways.docker_process = lambda: self._plugin.caller

    def _host(self) -> HostDoc | None:
        if not self._bridge.dpid:
            return None
        return {
            "hostName": self._options.host,
            "switch": self._bridge.dpid,
            "tunnelAddress": self._options.tunnel_address,
            "version": __version__,
            "datapathType": self._bridge.datapath_type,
            "mtu": self._state.mtu,
        }

    def start(self) -> None:
        """Start every part."""
        parts = (self._ports, self._sync, self._registry, self._networks, self._ways, self._plugin, self._follower)
        for part in (*parts, self._checks, self._names, self._outside, self._daemons, self._watch):
            part.start()
        LOG.info("netctl-agent %s of host %s serves %s", __version__, self._options.host, self._options.socket)

    def late(self) -> list[str]:
        """The threads that hang."""
        return self._state.pulse.late()

    def stop(self) -> None:
        """Stop; ports and flows stay, so traffic goes on."""
        self._plugin.stop()
        self._watch.stop()
        self._follower.stop()
        self._checks.stop(STOP_TIMEOUT)
        self._outside.stop()
        self._names.stop()
        self._daemons.stop()
        self._networks.stop()
        self._ways.stop()
        self._ports.stop()
        self._sync.stop(STOP_TIMEOUT)


def run(options: Options) -> int:
    """Run until a signal. Returns the exit status."""
    heaps.share()
    stop = threading.Event()
    failed: list[str] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    def on_error(error: threading.ExceptHookArgs) -> None:
        # A dead thread is a dead feature: be loud, and let the supervisor start all anew.
        name = error.thread.name if error.thread else "?"
        trace = (error.exc_type, error.exc_value or error.exc_type(), error.exc_traceback)
        LOG.critical("unexpected error in thread %s", name, exc_info=trace)
        failed.append(name)
        stop.set()

    def fail(line: str) -> None:
        LOG.critical("%s", line)
        failed.append(line)
        stop.set()

    os.umask(private.UMASK)
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    threading.excepthook = on_error
    faulthandler.register(signal.SIGUSR2)  # tells where each thread is
    heartbeat = Heartbeat()
    agent = Agent(options, fail)
    agent.start()
    heartbeat.ready()
    while not stop.wait(PERIOD):
        if late := agent.late():
            LOG.critical("stopping: no sign of life from %s", ", ".join(late))
            faulthandler.dump_traceback()
            logging.shutdown()
            os._exit(1)  # at once: what hangs would hang in an orderly end as well
        heartbeat.beat()
    heartbeat.stopping()
    agent.stop()
    LOG.info("stopped")
    return 1 if failed else 0


def _configure(context: click.Context, parameter: click.Parameter, path: str) -> str:
    names = [p.name for p in context.command.params if p.name and p.name != "config"]
    given = context.get_parameter_source("config") not in (ParameterSource.DEFAULT, None)
    try:
        context.default_map = read_config(path, names, must_exist=given)
    except StartError as error:
        raise click.UsageError(str(error), context) from error
    return path


@click.command(
    context_settings={
        "auto_envvar_prefix": "NETCTL",
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "max_content_width": 110,
    }
)
@click.option(
    "--config",
    default=CONFIG_FILE,
    is_eager=True,
    callback=_configure,
    expose_value=False,
    metavar="FILE",
    help="Configuration file: section [agent], each option of this list by its name.",
)
@click.option(
    "--netmaster",
    default=DEFAULT_URL,
    envvar=["NETCTL_NETMASTER", "NETMASTER"],
    metavar="URL",
    help="The controller's REST API; several with commas.",
)
@click.option("--host", default=default_host, show_default="this machine's name", help="Name of this Docker host.")
@click.option("--bridge", default="br-netctl", help="Bridge of Open vSwitch; made and set up where it is missing.")
@click.option(
    "--controller",
    default="tcp:127.0.0.1:6653",
    metavar="TARGETS",
    help="OpenFlow target of the bridge; several with commas.",
)
@click.option(
    "--datapath-type",
    type=click.Choice(["auto", "netdev", "system"]),
    default="auto",
    help="Userspace or kernel datapath; auto: an existing bridge's, else kernel where it has it.",
)
@click.option(
    "--socket",
    default="/run/docker/plugins/netctl.sock",
    metavar="PATH",
    help="Docker's plugin socket; its name is the driver's.",
)
@click.option(
    "--docker",
    default="unix:///var/run/docker.sock",
    envvar=["NETCTL_DOCKER", "DOCKER_HOST"],
    metavar="URL",
    help="Docker Engine.",
)
@click.option("--ovsdb", default="unix:/var/run/openvswitch/db.sock", metavar="REMOTE", help="Open vSwitch's database.")
@click.option(
    "--tunnel-address",
    default="",
    metavar="ADDRESS",
    help="Address of this host that the other hosts reach it by: their containers are reached from there, by VXLAN.",
)
@click.option(
    "--tcp-established-timeout",
    type=SECONDS,
    default=86400,
    metavar="SECONDS",
    help="How long the switch remembers an idle TCP connection.",
)
@click.option(
    "--tcp-half-closed-timeout",
    type=SECONDS,
    default=10800,
    metavar="SECONDS",
    help="The same for one that one side has closed: more than the two hours after which Linux sends keepalives.",
)
@click.option(
    "--udp-timeout",
    type=SECONDS,
    default=120,
    metavar="SECONDS",
    help="How long a UDP client stays with its provider without a datagram.",
)
@click.option(
    "--tenant-connections",
    type=click.IntRange(*CONNECTIONS),
    default=0,
    show_default="a tenth of the switch's table, half for each",
    metavar="NUMBER",
    help="How many connections to services the switch remembers of one tenant, and how many others; more are refused.",
)
@click.option("--state-dir", default="/var/lib/netctl", metavar="DIR", help="Where the agent remembers networks.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="What is logged.",
)
@click.version_option(__version__, prog_name="netctl-agent")
def command(**values: Any) -> None:
    """Connect this Docker host's containers to netctl's networks.

    Serves Docker's network and IPAM driver, follows Docker's events, and keeps the bridge's ports. Each option
    is also an environment variable, NETCTL_ and its name in capitals.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=values["log_level"].upper(), handlers=[handler])
    for library in ("pyroute2", "urllib3", "docker", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        sys.exit(run(made_of(values)))
    except AgentError as error:
        click.echo(f"netctl-agent: {error}", err=True)
        sys.exit(1)


def main() -> None:
    """The console script."""
    command(prog_name="netctl-agent")


if __name__ == "__main__":
    main()
