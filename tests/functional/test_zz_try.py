import time, collections
import pytest
from tests.kit.private_ovs import private
from tests.kit.lab import lab
from tests.kit.hosts import ask_again

def test_it(tmp_path):
    with private("q") as inst:
        with lab(tmp_path, inst) as it:
            it.network("srv","100.1.1.0/24"); it.network("web","10.1.1.0/24","10.1.1.254"); it.network("cli","20.1.1.0/24","20.1.1.254")
            vip=it.service("app","srv",["8080:80:TCP","53:53:UDP"],["tier=web"])
            hs=[it.host(f"w{n}","web",f"10.1.1.{n}",{"tier":"web"},serve=["tcp:80","udp:53"]) for n in (1,2)]
            c=it.host("c1","cli","20.1.1.1")
            print(vip, collections.Counter(c.who("tcp",vip,8080,100)), collections.Counter(c.who("udp",vip,53,100)))
            inst.flush_conntrack()
            for args in (("udp",vip,53),("udp","10.1.1.1",53)):
              with c.connect(*args, timeout=0.5) as s:
                for size in (3000,10,3000,9000,30000,60000):
                  try: print(args, size, ask_again(s, size))
                  except OSError as e: print(args, size, e)
            print([c.pings(x, "-s", str(n)) for x in (vip,"10.1.1.1","20.1.1.254") for n in (56,1472,3000,20000)])
            print(inst.conntrack())
            raws=[h.socket("raw", timeout=0.3) for h in (c, *hs)]
            with c.connect("udp", vip, 53, timeout=0.5) as s:
                for size in (10,3000,):
                  try: print(size, ask_again(s, size))
                  except OSError as e: print(size, e)
            for r,n in zip(raws,"c12"):
                while True:
                    try: d=r.recvfrom(70000)
                    except OSError: break
                    b=d[0]; print(n, d[1][2], len(b), b[14+4:14+8].hex(), b[26:30].hex(), b[30:34].hex(), b[34:38].hex())
            print("\n".join(f"{f.table} {f.packets} {f.priority} {f.match} {f.actions}" for f in it.flows() if f.packets))
