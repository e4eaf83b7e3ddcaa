import time
from tests.kit.crowd import crowd, met

def test_try(bare):
    bare.network("srv", "100.1.1.0/24")
    bare.network("web", "10.1.0.0/16", "10.1.255.254")
    bare.network("cli", "20.1.1.0/24", "20.1.1.254")
    c = bare.host("c1", "cli", "20.1.1.1")
    def put(name, address, labels, **more):
        bare.rest.put_endpoint(dict(endpointID=name, tenantName="default", networkName="web", ipAddress=[address], switch="00000000000000ff", portName=name, labels=labels)|more)
    for n in range(1,10): put(f"e{n}", f"10.1.0.{n}", {"tier":"nine"})
    for n,w in ((11,1),(12,3)): put(f"e{n}", f"10.1.0.{n}", {"tier":"two"}, weight=w)
    for n,w in ((21,1),(22,2),(23,5)): put(f"e{n}", f"10.1.0.{n}", {"tier":"three"}, weight=w)
    for tier in ("nine","two","three"):
        bare.service(tier, "srv", ["8080:80:TCP","53:53:UDP"], [f"tier={tier}"])
    print(bare.groups())
    vips = {s["serviceName"]: s["serviceVip"] for s in bare.rest.services()}
    for tier in ("nine","two","three"):
      for kind, port, n in (("tcp",8080,45000),("udp",53,45000)):
        t=time.time()
        crowd(c, kind, vips[tier], port, range(1024,1024+n))
        t1=time.time()
        m=met(bare, vips[tier]); total=sum(m.values())
        print(tier, kind, t1-t, time.time()-t, total, {k: round(v/total*len(m),3) for k,v in sorted(m.items())})
        print("megaflows", bare.instance.appctl("dpctl/show").strip().splitlines()[:4])
        bare.instance.flush_conntrack()
