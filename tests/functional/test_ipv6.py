"""scratch"""
from __future__ import annotations
from collections.abc import Mapping
import pytest
from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import run
from tests.kit.wide import wide

VIP = wide("100.1.1.1")

@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    bare.network("srv", "100.1.1.0/24", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    bare.network("cli", "20.1.1.0/24", "20.1.1.254", ipv6=True)
    bare.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"], vip="100.1.1.1")
    made = {n: bare.host(n, "web", f"10.1.1.{n[1]}", {"tier": "web"}, serve=["tcp:80", "udp:53"]) for n in ("w1","w2","w3")}
    made["c1"] = bare.host("c1", "cli", "20.1.1.1", serve=["udp:99"])
    return made

def test_x(bare: Lab, hosts: Mapping[str, Host]) -> None:
    c = hosts["c1"]
    print(run("ip", "-n", c.netns, "-6", "addr"))
    assert c.pings(wide("20.1.1.254"))
    assert c.pings(wide("10.1.1.1"))
    assert c.pings(wide("10.1.1.1"), "-s", "3000")
    assert c.pings(VIP)
    print(set(c.who("tcp", VIP, 8080, 30)))
    print(set(c.who("udp", VIP, 53, 30)))
    print(set(hosts["w1"].who("tcp", VIP, 8080, 30)))
    print(bare.instance.conntrack()[:5])
    print(bare.groups())
    assert c.reaches("tcp", wide("10.1.1.1"), 80)
    import time
    for size in (1400, 3000, 20000):
      for k in range(3):
        with c.connect("udp", VIP, 53) as s:
            try:
                print(size, k, "first", ask_again(s, size)[:40])
            except OSError as e: print(size, k, "first", e)
        with c.connect("udp", VIP, 53) as s:
            ask_again(s)
            try:
                print(size, k, "second", ask_again(s, size)[:40])
            except OSError as e: print(size, k, "second", e)
    for port in (81,):
        try: c.ask("tcp", VIP, port)
        except OSError as e: print(repr(e))
        try: c.ask("udp", VIP, port)
        except OSError as e: print(repr(e))
    assert 0
