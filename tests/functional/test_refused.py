"""The switch refuses what one object wants: the others do not suffer, one can see it, and it comes in when it can."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ryu_apps.pipeline.tables import Table
from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for

WEB = {"tier": "web"}


@pytest.fixture(scope="module")
def there(bare: Lab) -> Lab:
    """A service with a provider, and a client."""
    bare.network("srv", "100.1.1.0/24")
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    bare.network("cli", "20.1.1.0/24", "20.1.1.254")
    bare.host("w1", "web", "10.1.1.1", WEB, serve=["tcp:80"])
    bare.host("c1", "cli", "20.1.1.1")
    bare.service("app", "srv", ["8080:80:TCP"], ["tier=web"])
    return bare


@pytest.fixture
def client(there: Lab) -> Host:
    return Host("c1", there.instance, there.bridge, "20.1.1.1/24", "20.1.1.254")


@pytest.fixture
def full(there: Lab) -> Iterator[None]:
    """The table of services has no room for one more flow."""
    count = len(there.flows(f"table={Table.BALANCE:d}"))
    limit = ["set", "bridge", there.bridge, f"flow_tables:{Table.BALANCE:d}=@t", "--", "--id=@t"]
    there.instance.vsctl(*limit, "create", "Flow_Table", f"flow_limit={count}", "overflow_policy=refuse")
    yield
    there.instance.vsctl("clear", "bridge", there.bridge, "flow_tables")


@pytest.mark.usefixtures("full")
def test_a_full_table(there: Lab, client: Host) -> None:
    """One service too many would stop every change of the whole switch, and nobody would be told."""
    before = there.contents()
    vip = there.service("more", "srv", ["9090:80:TCP"], ["tier=web"])
    doc = there.settled()
    assert list(doc["errors"]) == ["service default:more"]
    assert "TABLE_FULL" in doc["errors"]["service default:more"]
    assert there.contents() == before, "nothing of it, or all"
    assert not client.reaches("tcp", vip, 9090)

    # life goes on beside it
    there.network("other", "30.1.1.0/24", "30.1.1.254")
    assert client.pings("30.1.1.254")
    assert client.reaches("tcp", "100.1.1.1", 8080)
    assert list(there.settled()["errors"]) == ["service default:more"]

    there.instance.vsctl("clear", "bridge", there.bridge, "flow_tables")
    wait_for(lambda: there.settled()["errors"] == {}, "the next try")
    wait_for(lambda: client.reaches("tcp", vip, 9090), "the service to work")
