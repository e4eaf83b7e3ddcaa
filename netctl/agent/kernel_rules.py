"""The kernel's packet filter between the bridge's own port and the rest of the host: what may pass, what is translated.

All of it is a function of the wish. It is written as one `iptables-restore` a change, atomic for each table: chains of
our own, and one jump to them in each built-in chain, ahead of Docker's rules and of everybody else's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from netctl.agent.errors import SwitchError
from topology.reach import HIDDEN, HIDDEN_HOST, PUBLISHED

PREFIX = "NETCTL-"
TIMEOUT = 20  # s
LOCK_WAIT = 10  # s for another program that holds the filter's lock

Chains = dict[str, list[str]]
KNOWN = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
REJECT_TCP = "-j REJECT --reject-with tcp-reset"
REJECT = "-j REJECT --reject-with icmp-port-unreachable"


@dataclass(frozen=True, slots=True)
class Closed:
    """What no container reaches: the control plane's ports, at any address of this host; and where else they are."""

    ports: tuple[tuple[str, int], ...] = ()  # (protocol, port)
    elsewhere: tuple[tuple[IPv4Network, str, int], ...] = ()  # (addresses, protocol, port)


NOTHING = Closed()


@dataclass(frozen=True, slots=True, order=True)
class Published:
    """A port of the host that leads to a service."""

    port: int
    protocol: str  # TCP | UDP
    address: IPv4Address  # the service's published one
    target: int
    service: str  # its key

    @property
    def name(self) -> str:
        """As its users call it."""
        return f"{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Table:
    """What one table of the filter has of ours: chains, and the jumps to them by built-in chain."""

    jumps: dict[str, str]
    chains: Chains


def wanted(device: str, published: Sequence[Published], closed: Closed = NOTHING) -> dict[str, Table]:
    """The tables, each rule in the words of `iptables-save`."""
    local = "-m addrtype --dst-type LOCAL"
    return {
        "filter": Table(
            {"INPUT": f"-i {device} -j NETCTL-INPUT", "FORWARD": "-j NETCTL-FORWARD"},
            {
                # the switch lets answers through, and what has a hidden address. Published ports don't come here
                "NETCTL-INPUT": [
                    KNOWN,
                    "-d 127.0.0.0/8 -j DROP",
                    *(f"-s {HIDDEN_HOST} {_to_port(protocol, port)}" for protocol, port in closed.ports),
                    f"-s {HIDDEN_HOST} -j RETURN",  # the rest is for the host's own rules
                    f"-s {HIDDEN} -p tcp {REJECT_TCP}",
                    f"-s {HIDDEN} {REJECT}",
                    "-j DROP",
                ],
                "NETCTL-CONTROL": [
                    # at an address of this host, which somebody else's rule has translated (Docker's, for `-p`)
                    *(_translated(protocol, port) for protocol, port in closed.ports),
                    *(f"{_to(where)}{_to_port(protocol, port)}" for where, protocol, port in closed.elsewhere),
                ],
                "NETCTL-FORWARD": [
                    f"-i {device} {KNOWN}",
                    f"-o {device} {KNOWN}",
                    f"! -s {HIDDEN} -i {device} -j DROP",
                    f"-d {PUBLISHED} -o {device} -m conntrack --ctstate DNAT -j ACCEPT",
                    # to containers only by what is published; nor from one tenant to another by this way
                    *_refused(device, "icmp-admin-prohibited"),
                    f"-i {device} -j NETCTL-CONTROL",
                    f"-i {device} -j ACCEPT",
                ],
            },
        ),
        "nat": Table(
            {
                "PREROUTING": f"{local} -j NETCTL-PUBLISH",
                "OUTPUT": f"{local} -j NETCTL-PUBLISH",
                "POSTROUTING": "-j NETCTL-POSTROUTING",
            },
            {
                "NETCTL-PUBLISH": [_publish(one) for one in sorted(published)],
                "NETCTL-POSTROUTING": [
                    f"-s {HIDDEN} -j MASQUERADE",
                    # containers know their host by one address, be it from 127.0.0.1 or from any other
                    f"-o {device} -m addrtype --src-type LOCAL -j MASQUERADE",
                ],
            },
        ),
    }


def wanted6(device: str) -> dict[str, Table]:
    """The same for IPv6: the host reaches its containers, and there is no way out and in."""
    return {
        "filter": Table(
            {"INPUT": f"-i {device} -j NETCTL-INPUT", "FORWARD": "-j NETCTL-FORWARD"},
            {
                "NETCTL-INPUT": [KNOWN, "-j DROP"],
                "NETCTL-FORWARD": [f"-i {device} -j DROP", *_refused(device, "icmp6-adm-prohibited")],
            },
        )
    }


def _refused(device: str, prohibited: str) -> list[str]:
    """The client is told at once, as a container on Docker's own bridge is one. But a packet that fits no connection
    may be a late one of a good connection, which a reset would end."""
    return [
        f"-o {device} -m conntrack --ctstate INVALID -j DROP",
        f"-o {device} -p tcp -j REJECT --reject-with tcp-reset",
        f"-o {device} -j REJECT --reject-with {prohibited}",
    ]


def _to(where: IPv4Network) -> str:
    return f"-d {where} " if where.prefixlen else ""


def _to_port(protocol: str, port: int) -> str:
    return f"-p {protocol} -m {protocol} --dport {port} {_reject(protocol)}"


def _translated(protocol: str, port: int) -> str:
    return f"-p {protocol} -m conntrack --ctstate DNAT --ctorigdstport {port} {_reject(protocol)}"


def _reject(protocol: str) -> str:
    return REJECT_TCP if protocol == "tcp" else REJECT


def _publish(one: Published) -> str:
    protocol = one.protocol.lower()
    return f"-p {protocol} -m {protocol} --dport {one.port} -j DNAT --to-destination {one.address}:{one.target}"


class KernelRules:
    """Keeps the filter of this network namespace as it is wished."""

    def __init__(self, program: str = "iptables") -> None:
        self._program = program  # iptables | ip6tables
        self._written: dict[str, Table] = {}  # the wish, and
        self._read: dict[str, Present] = {}  # how the kernel told it: not in the same words with every version

    def ensure(self, tables: Mapping[str, Table]) -> bool:
        """Write what differs. Returns whether anything did. Raises `SwitchError`."""
        changed = False
        for name, table in tables.items():
            present = read(self._program, name)
            if present.agrees(table) or (self._written.get(name) == table and self._read.get(name) == present):
                continue
            text = restore_text(name, table, present)
            _run(f"{self._program}-restore", "--noflush", "--wait", str(LOCK_WAIT), text=text)
            self._written[name], self._read[name] = table, read(self._program, name)
            changed = True
        return changed


@dataclass(frozen=True, slots=True)
class Present:
    """What a table has of ours. ``jumps``: by built-in chain, those that it has, and whether one is its first rule."""

    jumps: dict[str, tuple[list[str], bool]]
    chains: Chains

    def agrees(self, table: Table) -> bool:
        """Whether it is as wished, word by word."""
        return self.chains == table.chains and self.jumps == {c: ([rule], True) for c, rule in table.jumps.items()}


def read(program: str, table: str) -> Present:
    """What there is."""
    jumps: dict[str, tuple[list[str], bool]] = {}
    chains: Chains = {}
    seen: set[str] = set()
    for line in _run(f"{program}-save", "-t", table).splitlines():
        if line.startswith(f":{PREFIX}"):
            chains[line[1:].split()[0]] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            if chain in chains:
                chains[chain].append(rule)
            elif f"-j {PREFIX}" in rule:
                found, first = jumps.get(chain, ([], chain not in seen))
                jumps[chain] = ([*found, rule], first)
            seen.add(chain)
    return Present(jumps, chains)


def restore_text(name: str, table: Table, present: Present) -> str:
    """What `iptables-restore --noflush` has to be told to make the table as wished."""
    lines = [f"*{name}"]
    lines += [f":{chain} - [0:0]" for chain in {**table.chains, **present.chains}]  # made, or emptied
    for chain, (rules, first) in present.jumps.items():
        if rules != [table.jumps.get(chain)] or not first:
            lines += [f"-D {chain} {rule}" for rule in rules]
    for chain, rule in table.jumps.items():
        if present.jumps.get(chain) != ([rule], True):
            lines.append(f"-I {chain} 1 {rule}")
    lines += [f"-A {chain} {rule}" for chain, rules in table.chains.items() for rule in rules]
    lines += [f"-X {chain}" for chain in present.chains if chain not in table.chains]
    return "\n".join([*lines, "COMMIT", ""])


def _run(*command: str, text: str = "") -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except FileNotFoundError:
        raise SwitchError(
            f"{command[0]} is not installed: no way out, no published ports, no way from this host to its containers"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SwitchError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise SwitchError(f"{command[0]}: {' '.join(done.stderr.split()) or f'exit {done.returncode}'}")
    return done.stdout
