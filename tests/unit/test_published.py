"""What leads in and out of the hosts: published ports, each one service's alone, and the hosts' numbers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.docs import host_doc, replace, service_doc
from tests.unit.modelkit import APP, Door, furnished
from topology.allocate import LIMITS
from topology.capabilities import Capabilities
from topology.documents import ServiceDoc
from topology.errors import Conflict
from topology.model import Change, Host, Published, Service
from topology.sqlite_store import SqliteStore

OTHER = service_doc("default", "other", "srv", ports=["80:8080:TCP", "53:53:UDP"])


@pytest.fixture
def door() -> Door:
    """Service `app` has 80:8080:TCP."""
    return furnished()


def put(door: Door, spec: ServiceDoc, *publish: str) -> Service:
    return door.commands.put_service(replace(spec, publish=publish))


def test_a_port_of_the_hosts_is_one_services(door: Door) -> None:
    """Two services behind one port of a host: clients would reach the one or the other."""
    app = put(door, APP, "80:80", "8000:80:tcp")
    assert app.published == (Published(80, 80, "TCP"), Published(8000, 80, "TCP"))
    assert door.model.published(80, "TCP") is app
    assert door.model.published(80, "UDP") is None
    with pytest.raises(Conflict, match="port 8000 TCP of the hosts is that of service default:app"):
        put(door, OTHER, "8000:80")
    put(door, OTHER, "8000:53")
    assert door.model.published(8000, "UDP") is door.model.services["default:other"]


@pytest.mark.parametrize(
    ("publish", "whose"),
    [
        ("6653:80", r"port 6653 TCP is that of the control plane \(tcp:127.0.0.1:6653\); take another"),
        ("9999:80", r"the control plane \(tcp:\[fd00::1\]:9999\)"),
    ],
)
def test_the_control_planes_ports_are_nobodys(door: Door, publish: str, whose: str) -> None:
    """Its agents would take the port on every host, and a controller that restarts could not listen any more."""
    service = replace(APP, ports=["80:80:TCP", "53:53:UDP"])
    with pytest.raises(Conflict, match="port 4789 UDP is that of the hosts' tunnels; take another"):
        put(door, service, "4789:53:UDP")
    before = put(door, service, publish)  # the controller did not know better
    listeners = ["tcp:127.0.0.1:6653", "tcp:[fd00::1]:9999"]
    door.commands.capabilities = Capabilities(control=lambda: listeners)
    with pytest.raises(Conflict, match=whose):
        put(door, OTHER, publish)
    assert put(door, replace(service, selectors=["a=b"]), publish).published == before.published, "it may be changed"
    put(door, OTHER, "6653:53:UDP")


def test_a_port_comes_back(door: Door) -> None:
    """A port that a service gave up, or that went with it, is another's to have at once."""
    put(door, APP, "80:80", "81:80")
    put(door, APP, "81:80")
    put(door, OTHER, "80:80")
    assert put(door, APP).published == (), "an option left out has its default"
    assert door.model.published(81, "TCP") is None
    put(door, OTHER, "81:80", "80:80")
    door.commands.delete_service("default:other")
    put(door, APP, "80:80", "81:80")
    assert door.reopened().model.published(81, "TCP") == door.model.services["default:app"]


def test_a_changed_service_stays_published(door: Door) -> None:
    """A change of selectors doesn't free the port for another."""
    put(door, APP, "80:80")
    changed = put(door, replace(APP, selectors=["a=b"]), "80:80")
    assert door.model.published(80, "TCP") is changed
    revision = door.model.revision
    put(door, replace(APP, selectors=["a=b"]), "80:80:TCP")
    assert door.model.revision == revision


def test_published_addresses_differ(door: Door) -> None:
    """What comes for one service doesn't reach another."""
    app, other = put(door, APP, "80:80"), put(door, OTHER)
    assert str(app.published_address) == "249.0.0.1"
    assert str(other.published_address) == "249.0.0.2"


def test_hosts_have_numbers(door: Door) -> None:
    """Two hosts don't look the same to their containers; one that registers again stays who it is."""

    def put_host(*values: Any) -> Host:
        return door.commands.put_host(host_doc(*values))

    assert [put_host(name, 0).number for name in ("h1", "h2")] == [1, 2]
    assert str(put_host("h2", 5, "192.0.2.1").address) == "169.254.0.2"
    revision = door.model.revision
    assert put_host("h2", 5, "192.0.2.1").number == 2
    assert door.model.revision == revision
    assert door.model.by_number("host", 2) is door.model.hosts["h2"]
    door.commands.delete_host("h1")
    again = door.reopened().commands.put_host(host_doc("h1", 0))
    assert again.number == 3, "the number of one that went is not the next one's"
    last = Host("h", 1, number=LIMITS["host"])
    assert str(last.address) == "169.254.127.255"


def test_a_host_of_an_earlier_version_gets_a_number() -> None:
    """After an upgrade, a host's containers reach it from its agent's next heartbeat on."""
    store = SqliteStore(":memory:")
    store.commit(0, [Change(None, Host("old", 1)), Change(None, Host("older", 2))], {})
    door = Door(store)
    assert door.model.hosts["old"].address is None
    door.commands.put_host(host_doc("new", 3))
    assert door.commands.put_host(host_doc("old", 1)).number == 2
    assert door.commands.put_host(host_doc("older", 2)).number == 3
    assert {h.name: h.number for h in door.reopened().model.hosts.values()} == {"new": 1, "old": 2, "older": 3}
    door.commands.delete_host("old")
