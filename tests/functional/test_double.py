"""Two switches with one datapath id: the one that was there first stays, and the user is told."""

from __future__ import annotations

from tests.kit.lab import Lab
from tests.kit.ovs import wait_for


def told(lab: Lab) -> bool:
    """Whether REST speaks of the second one."""
    return "datapath id" in lab.controller.switch(lab.dpid).get("errors", {})


def test_a_second_switch_with_the_same_id_is_not_let_in(bare: Lab) -> None:
    """If it fails: a copied bridge and its original take turns, and neither has what the other was given."""
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    one = bare.host("w1", "web", "10.1.1.1")
    before = bare.settled()
    with bare.instance.bridge("twin", f"other-config:datapath-id={bare.dpid}") as twin:
        bare.instance.vsctl("set-controller", twin, bare.controller.target)
        wait_for(lambda: told(bare), "the second one to be refused")
        other = bare.host("w2", "web", "10.1.1.2", serve=["tcp:80"])
        wait_for(lambda: one.reaches("tcp", other.ip, 80), "the first one to be written to")
        now = bare.settled()
        assert {p["name"] for p in before["ports"]} <= {p["name"] for p in now["ports"]}
        assert bare.instance.ofctl("dump-flows", twin).count("cookie=0x4e") == 0
        (line,) = [e for name, e in now["errors"].items() if name == "datapath id"]
        assert "\n" not in line


def test_a_switch_that_comes_again_is_let_in(bare: Lab) -> None:
    """If it fails: a switch whose old connection was not yet known to be gone stays out."""
    bare.instance.vsctl("set", "bridge", bare.bridge, "protocols=OpenFlow13,OpenFlow14")  # it connects anew
    wait_for(lambda: bare.controller.switch(bare.dpid), "the switch to be back")
    bare.settled()
