"""A switch has more ports than one message describes: none of them is taken for gone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from netctl.client import Client
from ryu_apps.openflow.connection import PORTS, PORTS_PER_SECOND
from tests.kit.controller import Controller, controller
from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.rawswitch import (
    ADD,
    DELETE,
    DPID,
    ECHO_REPLY,
    ECHO_REQUEST,
    FLOW,
    GROUP_DESC,
    METER_CONFIG,
    MODIFY,
    message,
    port_status,
    ports_reply,
    raw_switch,
)
from topology.documents import NetworkDoc
from topology.reports import EndpointDoc, HostDoc

PART = 1023  # ports in one message
MANY = 1150


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller without a switch."""
    with controller(tmp_path_factory.mktemp("alone")) as made:
        yield made


@pytest.fixture(autouse=True)
def forgotten(alone: Controller) -> Iterator[None]:
    """All tests' switches have one datapath id: the controller has forgotten the last one before the next connects."""
    yield
    wait_for(lambda: not alone.client.switches(), "the switch to be gone")


def names(ctl: Controller, dpid: str) -> list[str]:
    """The ports that the controller knows of, by number."""
    return [port["name"] for port in ctl.switch(dpid)["ports"]]


def test_ports_in_several_parts(alone: Controller) -> None:
    """All containers but the first thousand would be cut off when the controller restarts."""
    with raw_switch(alone) as switch:
        switch.answer_ports = lambda xid: [
            ports_reply(xid, range(1, 1024), more=True),
            ports_reply(xid, range(1024, 2047), more=True),
            ports_reply(xid, [], more=True),
            ports_reply(xid, [2047]),
        ]
        switch.run_until(lambda: alone.switch(switch.dpid).get("settled"))
        assert names(alone, switch.dpid) == [f"p{n}" for n in range(1, 2048)]


def test_what_happens_to_ports_between_the_parts(alone: Controller) -> None:
    """A container that starts or stops while the controller does would be without flows, or keep them."""
    with raw_switch(alone) as switch:
        switch.answer_ports = lambda xid: [
            port_status(9),
            ports_reply(xid, [1, 2, 3, 4], more=True),
            port_status(2, DELETE),
            port_status(7),
            port_status(8),
            ports_reply(xid, [5, 6, 9]),
            port_status(8, DELETE),
            port_status(3, MODIFY),
        ]
        switch.run_until(lambda: alone.switch(switch.dpid).get("settled"))
        switch.run_until(lambda: names(alone, switch.dpid) == [f"p{n}" for n in (1, 3, 4, 5, 6, 7, 9)])


@pytest.mark.parametrize(
    ("ports", "why"),
    [
        pytest.param(range(1, 1024), "it has more than 4096 ports, the most of a switch that no host", id="full"),
        pytest.param([], "the description of its ports has no end", id="empty"),
    ],
)
def test_a_description_without_an_end(alone: Controller, ports: Iterable[int], why: str) -> None:
    """One broken switch would take all of the controller's memory."""
    alone.new_log()
    with raw_switch(alone) as switch:

        def endless(xid: int) -> Iterator[bytes]:
            while not switch.closed:
                yield ports_reply(xid, ports, more=True)

        switch.answer_ports = endless
        switch.run_until(lambda: switch.closed)
    said = alone.new_log()
    assert said.count(why) == 1, said


@pytest.mark.parametrize("kind", [FLOW, GROUP_DESC, METER_CONFIG])
@pytest.mark.parametrize("body", [bytes(64), b"\xff\xff" + bytes(62), b"\0\x50" + bytes(30)])
def test_an_answer_that_makes_no_sense(alone: Controller, kind: int, body: bytes) -> None:
    """One broken switch would keep the controller busy for ever, or end it."""
    alone.new_log()
    with raw_switch(alone) as switch:
        switch.bodies[kind] = body
        switch.run_until(lambda: switch.closed)
    said = alone.new_log()
    assert said.count("says that it has") == 1, said
    assert "Traceback" not in said


def test_a_switch_without_a_host_that_claims_65536_ports(alone: Controller) -> None:
    """At each of them links and hosts would be looked for, and no other switch have its turn."""
    for claim in ("at once", "one by one"):
        alone.new_log()
        with raw_switch(alone) as switch:
            if claim == "at once":
                switch.answer_ports = lambda xid: [
                    *(ports_reply(xid, range(at, at + PART), more=True) for at in range(1, 65_536, PART)),
                    ports_reply(xid, []),
                ]
            else:
                switch.run_until(lambda: alone.switch(f"{DPID:016x}").get("settled"))
                switch.send(b"".join(map(port_status, range(1, 5000))))
            switch.run_until(lambda: switch.closed)
        assert alone.new_log().count("it has more than 4096 ports, the most of a switch that no host") == 1
        wait_for(lambda: not alone.client.switches(), "the switch to be gone")


def test_a_switch_that_flaps_its_ports(bare: Lab) -> None:
    """One switch whose ports come and go without an end would keep the controller from all others."""
    ctl, more = bare.controller, 3000
    bare.settled()
    with raw_switch(ctl, DPID + 1) as switch, ThreadPoolExecutor() as aside:
        switch.run_until(lambda: ctl.switch(switch.dpid).get("settled"))
        flaps = [port_status(2 + n % 1000, what) for n in range((PORTS + more) // 2) for what in (ADD, DELETE)]
        began = time.monotonic()
        sent = aside.submit(switch.send, b"".join(flaps) + message(ECHO_REQUEST, 99))
        change = aside.submit(bare.network, "beside", "10.240.0.0/24", "10.240.0.254")
        switch.run_until(lambda: change.done() and bare.settled(), timeout=10)
        switch.run_until(lambda: sent.done() and (ECHO_REPLY, 0) in switch.requests, timeout=60)
        assert time.monotonic() - began > more / PORTS_PER_SECOND * 0.9, "what exceeds the rate is read as it allows"
        switch.run_until(lambda: names(ctl, switch.dpid) == ["p1"])
    bare.rest.delete_network("default:beside")


def test_a_network_with_more_ports_than_a_flow_can_name(alone: Controller) -> None:
    """The controller would end, and end again each time that it starts."""
    client, count = alone.client, 4100
    client.put_network(NetworkDoc(tenantName="default", networkName="many", subnet="10.1.0.0/16"))
    client.put_host(HostDoc(hostName="h", switch=f"{DPID:016x}"))
    with raw_switch(alone) as switch:
        switch.answer_ports = lambda xid: [
            *(ports_reply(xid, range(at, at + PART), more=True) for at in range(1, count, PART)),
            ports_reply(xid, []),
        ]
        switch.run_until(lambda: alone.switch(switch.dpid).get("settled"))
        with ThreadPoolExecutor() as aside:
            named = aside.submit(Client(alone.url).sync_endpoints, "h", docs(count, "p"))
            switch.run_until(named.done, timeout=60)
            assert named.result()
        switch.run_until(lambda: alone.switch(switch.dpid).get("settled"), timeout=60)
        doc = alone.switch(switch.dpid)
    assert not doc.get("errors")
    assert doc["groups"] == 5


@pytest.fixture(scope="module")
def full(bare: Lab) -> Lab:
    """A host with 1,150 endpoints at ports that lead nowhere, and two at real ones: a provider and a client."""
    bare.network("many", "10.1.0.0/16", "10.1.255.254")
    bare.network("srv", "100.1.1.0/24")
    bare.rest.put_host(HostDoc(hostName="h", switch=bare.dpid))
    add_ports(bare, MANY)
    bare.rest.sync_endpoints("h", docs(MANY))
    bare.host("w1", "many", "10.1.200.1", {"tier": "web"}, serve=["tcp:80"])
    bare.host("c1", "many", "10.1.200.2")
    bare.service("app", "srv", ["8080:80:TCP"], ["tier=web"], vip="100.1.1.1")
    return bare


def add_ports(lab: Lab, count: int, start: int = 1) -> None:
    """Ports q1, q2, … of the bridge, fast: patch ports have no device."""
    args: list[str] = []
    for n in range(start, count + 1):
        args += ["--", "add-port", lab.bridge, f"q{n}", "--", "set", "interface", f"q{n}", "type=patch"]
        args += [f"options:peer=r{n}"]
    lab.instance.vsctl(*args[1:], timeout=60)


def docs(count: int, port: str = "q") -> list[EndpointDoc]:
    """The endpoints at ports q1, q2, …"""
    return [
        EndpointDoc(endpointID=f"e{n}", tenantName="default", networkName="many", portName=f"{port}{n}",
                    ipAddress=[f"10.1.{n // 250}.{n % 250 + 1}"])
        for n in range(1, count + 1)
    ]  # fmt: skip


def test_a_restart_with_more_ports_than_a_message_holds(full: Lab) -> None:
    """A restart of the controller would cut off every container beyond the first thousand ports of a host."""
    before = full.settled()
    assert len(before["ports"]) > MANY > PART
    contents = full.contents()

    full.controller.kill()
    full.controller.start()

    after = full.settled()
    assert (after["flowMods"], after["groupMods"]) == (0, 0)
    assert len(after["ports"]) == len(before["ports"])
    assert full.contents() == contents
    client = Host("c1", full.instance, full.bridge, "10.1.200.2/16", "10.1.255.254")
    assert client.reaches("tcp", "100.1.1.1", 8080)
