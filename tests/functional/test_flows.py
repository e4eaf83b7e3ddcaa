"""The flows that are shown are those of Open vSwitch, with its counters."""

from __future__ import annotations

import pytest

from netctl.client import Refused
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from topology.answers import FlowDoc

OWNER = "service:default:app"
VIP = "100.1.1.1"


def test_they_are_the_switchs(bare: Lab) -> None:
    """An operator would look for lost packets in flows that are not there, or count those of others."""
    bare.network("srv", "100.1.1.0/24")
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    bare.host("w1", "web", "10.1.1.1", {"tier": "web"}, serve=["tcp:80"])
    client = bare.host("c1", "web", "10.1.1.9")
    assert bare.service("app", "srv", ["8080:80:TCP"], ["tier=web"], options={"sessionAffinity": 60}) == VIP
    bare.instance.ofctl("add-flow", bare.bridge, "cookie=0x77,table=7,priority=9,ip,nw_dst=9.9.9.9,actions=drop")
    assert client.who("tcp", VIP, 8080, 5) == ["w1"] * 5

    def begun() -> list[FlowDoc]:
        found = bare.rest.flows(bare.dpid, {"table": "balance", "owner": OWNER})["flows"]
        return [flow for flow in found if "tcp_dst=8080" in flow["match"] and "resubmit to sticky" in flow["actions"]]

    wait_for(lambda: [flow["packets"] for flow in begun()] == [5], "the switch to have counted five connections")
    (flow,) = begun()
    assert (flow["table"], flow["kind"], flow["owners"]) == ("balance", "affinity", [OWNER])
    assert flow["match"].startswith(f"tcp tenant=default dst={VIP} tcp_dst=8080")

    everything = bare.rest.flows(bare.dpid, {})
    ours = [f for f in bare.flows() if f.cookie >> 56 == 0x4E]
    assert (len(everything["flows"]), everything["more"]) == (len(ours), 0)
    assert sorted((f["priority"], f["actions"] == "drop") for f in everything["flows"]) == sorted(
        (f.priority, f.actions == "drop") for f in ours
    )
    assert everything["learned"] == 1
    assert {f["table"] for f in bare.rest.flows(bare.dpid, {"table": "route"})["flows"]} == {"route"}
    by_name = bare.rest.flows(bare.dpid, {"owner": "endpoint:w1"})["flows"]
    assert {owner for f in by_name for owner in f["owners"]} >= {"endpoint:w1"}
    assert any(f["match"] == "in_port=w1 eth_src=" + bare.rest.endpoint("w1")["macAddress"] for f in by_name)

    for query, status, line in (
        ({"owner": "endpoint:w2"}, 404, "endpoint w2 not found"),
        ({"table": "blance"}, 422, "table blance: must be one of classify, guard, "),
        ({"owner": "app"}, 422, "owner app: must be switch, network:TENANT:NETWORK, "),
    ):
        with pytest.raises(Refused) as refused:
            bare.rest.flows(bare.dpid, query)
        assert refused.value.status == status
        assert refused.value.line.startswith(line)
