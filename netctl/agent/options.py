"""The agent's options: a flag, an environment variable ``NETCTL_*`` or a line of the configuration file each."""

from __future__ import annotations

import configparser
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

from netctl.agent.errors import StartError
from netctl.agent.zones import Timeouts
from netctl.urls import checked_url

CONFIG_FILE = "/etc/netctl/agent.conf"
SECTION = "agent"
TIMEOUTS = (10, 30 * 86400)  # s: least and greatest of conntrack's
CONNECTIONS = (0, 1_000_000_000)  # of a tenant


@dataclass(frozen=True, slots=True)
class Options:
    """What the agent was told. Values are checked by `checked`."""

    netmaster: str
    host: str
    bridge: str
    controller: tuple[str, ...]
    datapath_type: str  # auto | netdev | system
    socket: Path
    docker: str
    ovsdb: str
    tunnel_address: str
    timeouts: Timeouts
    tenant_connections: int  # 0: a part of the switch's table
    state_dir: Path
    log_level: str

    @property
    def driver(self) -> str:
        """The driver's name: Docker takes it from the socket's."""
        return self.socket.stem


def default_host() -> str:
    """This machine's name, as the hosts' names of the model are written."""
    return socket.gethostname()


def read_config(path: str, names: Iterable[str], *, must_exist: bool) -> dict[str, str]:
    """The settings of an INI file, by option name with underscores. Only section ``[agent]``, only known names."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except FileNotFoundError:
        if must_exist:
            raise StartError(f"{path}: no such file") from None
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise StartError(f"{path}: {' '.join(str(error).split())}") from error
    for section in parser.sections():
        if section != SECTION:
            raise StartError(f"{path}: unknown section [{section}]; the agent's is [{SECTION}]")
    known = {name.replace("_", "-") for name in names}
    settings = dict(parser[SECTION]) if parser.has_section(SECTION) else {}
    for name in settings:
        if name.replace("_", "-") not in known:
            raise StartError(f"{path}: unknown option {name}; known: {', '.join(sorted(known))}")
    return {name.replace("-", "_"): value for name, value in settings.items()}


def made_of(values: Mapping[str, Any]) -> Options:
    """The options out of the command line's values. Raises `StartError`."""
    try:
        netmaster = checked_url(values["netmaster"])
    except ValueError as error:
        raise StartError(f"--netmaster: {error}") from None
    return checked(
        Options(
            netmaster=netmaster,
            host=values["host"],
            bridge=values["bridge"],
            controller=tuple(t.strip() for t in values["controller"].split(",") if t.strip()),
            datapath_type=values["datapath_type"],
            socket=Path(values["socket"]),
            docker=values["docker"],
            ovsdb=values["ovsdb"],
            tunnel_address=values["tunnel_address"],
            timeouts=Timeouts(
                established=values["tcp_established_timeout"],
                half_closed=values["tcp_half_closed_timeout"],
                udp=values["udp_timeout"],
            ),
            tenant_connections=values["tenant_connections"],
            state_dir=Path(values["state_dir"]),
            log_level=values["log_level"],
        )
    )


def checked(options: Options) -> Options:
    """The same options, or `StartError` with the first that can't be right."""
    if not options.host:
        raise StartError("--host: a host needs a name")
    if len(options.bridge) > 15 or not options.bridge or "/" in options.bridge:
        raise StartError(f"--bridge {options.bridge!r}: an interface's name has 1 to 15 characters")
    for target in options.controller:
        if target.partition(":")[0] not in ("tcp", "ssl", "unix"):
            raise StartError(f"--controller {target!r}: tcp:ADDRESS:PORT, ssl:ADDRESS:PORT or unix:PATH")
    if not options.controller:
        raise StartError("--controller: at least one is needed, or the switch would forget its flows")
    if options.socket.suffix != ".sock":
        raise StartError(f"--socket {options.socket}: Docker finds a plugin by a name that ends in .sock")
    if options.tunnel_address:
        try:
            IPv4Address(options.tunnel_address)
        except AddressValueError:
            raise StartError(f"--tunnel-address {options.tunnel_address!r}: not an IPv4 address") from None
    return options
