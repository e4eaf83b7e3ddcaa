"""Our codec and bundles against ovs-ofctl's: ``python -m tests.bench.wire HOST PORT BRIDGE ROUNDS``.

A process of its own, as the framework wants it. Listens for the bridge at HOST and PORT, puts the same flows and groups
into it in turns, and prints the seconds as JSON.
``OVS_RUNDIR`` says which Open vSwitch the bridge is on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from ryu_apps import config, framework
from ryu_apps.openflow import codec, session
from ryu_apps.openflow.session import Mod, Session
from ryu_apps.pipeline.fields import ETH_IP
from ryu_apps.pipeline.values import Bucket, Ct, Flow, Group, Nat, SetField, match

COUNT = 10_000  # flows, and groups
BUCKETS = 10  # a group
FIRST_ADDRESS, PROVIDER = 10 << 24, 11 << 24
TIMEOUT = 60.0


class Listener(framework.App):
    """Holds the session of the switch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.session: Session | None = None

    @framework.set_ev_cls(session.EVENTS, [framework.MAIN_DISPATCHER, framework.DEAD_DISPATCHER])
    def answered(self, ev: Any) -> None:
        """The session hears of what comes in."""
        if getattr(ev, "state", None) == framework.MAIN_DISPATCHER:
            self.session = Session(session.datapath_of(ev))
        elif self.session is not None:
            self.session.on_event(ev)


def flows() -> list[Flow]:
    """One an address, as a table of routes has them."""
    return [
        Flow(5, 100, match(eth_type=ETH_IP, ipv4_dst=FIRST_ADDRESS + n), (SetField("reg2", n + 1),), goto=6)
        for n in range(COUNT)
    ]


def groups() -> list[Group]:
    """One a service, its buckets as ours are."""
    return [
        Group(
            1 + n,
            "select",
            tuple(
                Bucket((Ct(1, table=5, commit=True, nat=Nat(dst=PROVIDER + b, port=80)),), weight=25)
                for b in range(BUCKETS)
            ),
        )
        for n in range(COUNT)
    ]


def as_text() -> tuple[str, str]:
    """The same for ovs-ofctl."""
    lines = [
        f"table=5,priority=100,ip,nw_dst={IPv4Address(FIRST_ADDRESS + n)} actions=set_field:{n + 1}->reg2,goto_table:6"
        for n in range(COUNT)
    ]
    buckets = ",".join(
        f"bucket=weight:25,actions=ct(commit,table=5,zone=1,nat(dst={IPv4Address(PROVIDER + b)}:80))"
        for b in range(BUCKETS)
    )
    return "\n".join(lines) + "\n", "".join(f"group_id={1 + n},type=select,{buckets}\n" for n in range(COUNT))


def seconds(what: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.monotonic()
    what()
    return time.monotonic() - start


def ofctl(*args: str) -> None:
    """``ovs-ofctl`` in OpenFlow 1.3."""
    subprocess.run(["ovs-ofctl", "-O", "OpenFlow13", *args], check=True, capture_output=True, timeout=TIMEOUT)


def ours(switch: Session, encode: Callable[[Any], bytes], values: Sequence[Any]) -> None:
    """Encode and put in."""
    errors = switch.apply([Mod("bench", encode(value)) for value in values], TIMEOUT)
    assert not errors, f"the switch refuses: {errors[:3]}"


def empty(bridge: str) -> None:
    """Nothing in the switch."""
    ofctl("del-flows", bridge)
    ofctl("del-groups", bridge)


def flow_message(flow: Flow) -> bytes:
    """As it goes out."""
    return codec.flow_add(codec.encode_flow(flow))


def group_message(group: Group) -> bytes:
    """As it goes out."""
    return codec.group_add(codec.encode_group(group))


def connected(host: str, port: int) -> Session:
    """The session, when the switch is there."""
    config.register(framework.CONF)
    framework.CONF(
        args=["--ofp-listen-host", host, "--ofp-tcp-listen-port", str(port)], project="bench", default_config_files=[]
    )
    manager = framework.app_manager.AppManager.get_instance()
    manager.load_apps([f"{framework.NAME}.controller.ofp_handler"])
    app = manager.instantiate(Listener)
    manager.instantiate_apps()
    until = time.monotonic() + TIMEOUT
    while app.session is None:
        assert time.monotonic() < until, "the switch does not connect"
        framework.hub.sleep(0.02)
    found: Session = app.session
    return found


def main(host: str, port: int, bridge: str, rounds: int) -> None:
    """Print a line of JSON: four lists of seconds."""
    switch = connected(host, port)
    out: dict[str, list[float]] = {name: [] for name in ("our_flows", "our_groups", "their_flows", "their_groups")}
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory) / name for name in ("flows", "groups")]
        for file, text in zip(files, as_text(), strict=True):
            file.write_text(text)
        for _ in range(rounds):
            made, grouped = flows(), groups()
            empty(bridge)
            out["our_groups"].append(seconds(partial(ours, switch, group_message, grouped)))
            out["our_flows"].append(seconds(partial(ours, switch, flow_message, made)))
            empty(bridge)
            out["their_groups"].append(seconds(partial(ofctl, "--bundle", "add-groups", bridge, str(files[1]))))
            out["their_flows"].append(seconds(partial(ofctl, "--bundle", "add-flows", bridge, str(files[0]))))
    print(json.dumps(out), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
