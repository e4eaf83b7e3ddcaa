"""What each command sends and says, against Contiv's wording."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netctl.cli import main
from netctl.commands.switch import _fitted
from tests.unit.fake_controller import FakeController

Run = Callable[..., str]
CONTAINER = "ab" * 32


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeController]:
    with FakeController() as controller:
        controller.docs["hosts"]["h1"] = {"key": "h1", "hostName": "h1", "connected": True}
        monkeypatch.setenv("NETMASTER", controller.url)
        yield controller


@pytest.fixture
def run(fake: FakeController, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command line that must succeed; what it printed."""

    def run(*args: str) -> str:
        status = main(args)
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return out

    return run


def add_service(fake: FakeController, name: str, **fields: Any) -> None:
    tenant = fields.setdefault("tenantName", "default")
    fake.docs["serviceLBs"][f"{tenant}:{name}"] = {"key": f"{tenant}:{name}", "serviceName": name, **fields}


def test_walk_through(fake: FakeController, run: Run) -> None:
    """Without this, the first thing that a user types from the README fails."""
    assert run("net", "create", "contiv-srv-net", "-s", "100.1.1.0/24") == (
        "Creating network default:contiv-srv-net\n"
    )
    selectors = ("--selector=tier=web", "--selector=release=stable", "--selector=environment=prod")
    args = ("--network", "contiv-srv-net", "--tenant", "default", *selectors, "--port", "8080:80:TCP")
    assert run("service", "create", "app-svc", *args) == "Creating ServiceLB default:app-svc\n"
    assert run("net", "create", "contiv-net", "-s", "10.1.1.0/24", "-g", "10.1.1.254") == (
        "Creating network default:contiv-net\n"
    )
    service = fake.docs["serviceLBs"]["default:app-svc"]
    assert service == {
        "key": "default:app-svc",
        "serviceName": "app-svc",
        "tenantName": "default",
        "networkName": "contiv-srv-net",
        "selectors": ["tier=web", "release=stable", "environment=prod"],
        "ports": ["8080:80:TCP"],
    }
    assert fake.docs["networks"]["default:contiv-net"]["gateway"] == "10.1.1.254"


@pytest.mark.parametrize("hosts", [{}, {"h1": {"key": "h1", "hostName": "h1", "connected": False}}])
def test_a_network_without_a_docker_host(
    fake: FakeController, capsys: pytest.CaptureFixture[str], hosts: dict[str, Any]
) -> None:
    """Who forgot to start the agent would hear it only from Docker, as a network that is not found."""
    fake.docs["hosts"] = hosts
    assert main(["net", "create", "n", "-s", "10.1.1.0/24"]) == 0
    said = "No Docker host is connected: no container can join before one is (netctl host ls)\n"
    assert capsys.readouterr() == ("Creating network default:n\n", said)


def test_network_flags(fake: FakeController, run: Run) -> None:
    """Otherwise a script written for Contiv makes another network than it asks for."""
    run("tenant", "create", "blue")
    args = "network create n -t blue -n infra -e vlan -p 12 -s 10.1.1.0/24 -g 10.1.1.1 -s6 fd::/64 -g6 fd::1"
    assert run(*args.split(), "-tag", "x", "--nat", "--internal") == "Creating network blue:n\n"
    assert fake.docs["networks"]["blue:n"] == {
        "key": "blue:n",
        "tenantName": "blue",
        "networkName": "n",
        "nwType": "infra",
        "encap": "vlan",
        "pktTag": 12,
        "subnet": "10.1.1.0/24",
        "gateway": "10.1.1.1",
        "ipv6Subnet": "fd::/64",
        "ipv6Gateway": "fd::1",
        "nat": True,
        "internal": True,
        "cfgdTag": "x",
    }


def test_network_ls(run: Run) -> None:
    """Otherwise scripts that read Contiv's columns read the wrong ones."""
    run("net", "create", "b", "-s", "10.2.0.0/16")
    run("net", "create", "a", "-s", "10.1.1.0/24", "-g", "10.1.1.254", "-p", "7", "-tag", "t")
    run("net", "create", "c", "-s", "10.3.1.0/24", "-g", "10.3.1.1", "--nat", "-s6=fd00:3::/64", "-g6=fd00:3::1")
    run("net", "create", "d", "-s", "10.4.0.0/16", "--internal")
    run("net", "create", "e", "-s", "10.5.0.0/16", "-g", "10.5.0.1", "--nat", "--nat-host")
    assert run("net", "ls").splitlines() == [
        "Tenant   Network  Nw Type  Encap type  Packet tag  Subnet       Gateway     IPv6Subnet   IPv6Gateway"
        "  Cfgd Tag  NAT   Internal",
        "------   -------  -------  ----------  ----------  ------       -------     ----------   -----------"
        "  --------  ---   --------",
        "default  a        data     vxlan       7           10.1.1.0/24  10.1.1.254                          "
        "  t",
        "default  b        data     vxlan       0           10.2.0.0/16",
        "default  c        data     vxlan       0           10.3.1.0/24  10.3.1.1    fd00:3::/64  fd00:3::1  "
        "            yes",
        "default  d        data     vxlan       0           10.4.0.0/16                                      "
        "                  yes",
        "default  e        data     vxlan       0           10.5.0.0/16  10.5.0.1                            "
        "            host",
    ]


def test_ls_by_tenant(run: Run) -> None:
    """Otherwise a tenant sees what is not its own, or an operator can't see all."""
    for tenant in ("blue", "red"):
        run("tenant", "create", tenant)
        run("net", "create", f"{tenant}-net", "-t", tenant, "-s", "10.1.1.0/24")
    assert run("net", "ls", "-q") == ""
    assert run("net", "ls", "-q", "-t", "red") == "red-net\n"
    assert run("net", "list", "--quiet", "--all") == "blue-net\nred-net\n"
    assert run("net", "ls", "-aq") == "blue-net\nred-net\n"


@pytest.mark.parametrize("noun", ["net", "service", "endpoint"])
def test_ls_of_a_tenant_that_is_not_there(
    noun: str, fake: FakeController, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped tenant would look like an empty one."""
    assert main((noun, "ls", "-t", "nosuch")) == 3
    assert capsys.readouterr().err == "Tenant nosuch not found\n"
    assert run(noun, "ls", "-q", "--all") == ""


def test_ls_json(run: Run) -> None:
    """Otherwise `netctl net ls --json | jq` breaks."""
    assert run("net", "ls", "--json") == "[]\n"
    run("net", "create", "a", "-s", "10.1.1.0/24")
    out = run("net", "ls", "-j")
    assert out.startswith('[\n  {\n    "')
    assert json.loads(out) == [
        {
            "key": "default:a",
            "tenantName": "default",
            "networkName": "a",
            "nwType": "data",
            "encap": "vxlan",
            "subnet": "10.1.1.0/24",
        }
    ]


def test_service_ls(fake: FakeController, run: Run) -> None:
    """Otherwise a user can't see where a service answers and who is behind it."""
    add_service(
        fake,
        "web",
        networkName="srv",
        serviceVip="100.1.1.2",
        ports=["80:8080:TCP", "643:7070:UDP"],
        selectors=["tier=web", "release=stable"],
        numProviders=4,
        healthyProviders=3,
    )
    assert run("service", "ls").splitlines() == [
        "ServiceName  Tenant   Network  VIP        Ports                     Providers  Selectors                "
        "  Published",
        "-----------  ------   -------  ---        -----                     ---------  ---------                "
        "  ---------",
        "web          default  srv      100.1.1.2  80:8080:TCP,643:7070:UDP  3/4        "
        "[tier=web release=stable]",
    ]
    assert len(fake.seen) == 1
    fake.docs["serviceLBs"]["default:web"] |= {"serviceVip6": "fd00::2", "publish": ["80:80:TCP", "53:643:UDP"]}
    words = run("service", "ls").splitlines()[-1].split()
    assert (words[3], words[-1]) == ("100.1.1.2,fd00::2", "80:80:TCP,53:643:UDP")
    fake.docs["serviceLBs"]["default:web"] |= {"noWayBack": ["network backend has no gateway"]}
    assert "  3/4, no way back: network backend has no gateway  " in run("service", "ls")


def test_service_ls_json_keeps_a_zero(fake: FakeController, run: Run) -> None:
    """Otherwise a script can't tell a service without providers from a controller that doesn't count them."""
    add_service(fake, "web", numProviders=0, ports=[])
    (doc,) = json.loads(run("service", "ls", "-j"))
    assert doc["numProviders"] == 0
    assert "ports" not in doc


def test_service_preferred_ip(fake: FakeController, run: Run) -> None:
    """Otherwise a service doesn't get the address that was asked for."""
    run("net", "create", "n", "-s", "10.1.1.0/24")
    run("service", "create", "s", "-s", "n", "-l", "a=b", "-p", "80:80:TCP", "-ip", "10.1.1.9")
    assert fake.docs["serviceLBs"]["default:s"]["ipAddress"] == "10.1.1.9"
    assert not {"ipv6Address", "publish"} & fake.docs["serviceLBs"]["default:s"].keys()


SERVICE = ("service", "create", "s", "-s", "n", "-l", "a=b", "-p", "80:80:TCP")


@pytest.mark.parametrize(
    ("flags", "sent"),
    [
        ("", {}),
        ("--session-affinity 60", {"sessionAffinity": 60}),
        (
            "-session-affinity=60 -affinity-mode absolute",
            {"sessionAffinity": 60, "affinityMode": "absolute"},
        ),
        ("--drain-timeout 0", {"drainTimeout": 0}),
        ("--preferred-ipv6 fd00::9", {"ipv6Address": "fd00::9"}),
        ("-ip6=fd00::9", {"ipv6Address": "fd00::9"}),
        ("--publish 8000:80:TCP -publish=8001:80", {"publish": ["8000:80:TCP", "8001:80"]}),
        ("--check tcp", {"healthCheck": {"protocol": "tcp"}}),
        (
            "--check http --check-path /up --check-interval 9 --check-timeout 3 --check-rise 1 --check-fall 4",
            {
                "healthCheck": {
                    "protocol": "http",
                    "path": "/up",
                    "interval": 9,
                    "timeout": 3,
                    "rise": 1,
                    "fall": 4,
                }
            },
        ),
    ],
)
def test_service_options(fake: FakeController, run: Run, flags: str, sent: dict[str, Any]) -> None:
    """Otherwise an option of a service is lost on its way, or one that was left out is not the default."""
    run("net", "create", "n", "-s", "10.1.1.0/24")
    run(*SERVICE, *flags.split())
    options = {"sessionAffinity", "affinityMode", "drainTimeout", "healthCheck", "ipv6Address", "publish"}
    document = fake.docs["serviceLBs"]["default:s"]
    assert {k: v for k, v in document.items() if k in options} == sent


def test_weight_of_a_bare_host(fake: FakeController, run: Run) -> None:
    """Otherwise a stronger host gets no more than the others."""
    run("ep", "create", "h1", "-s", "n", "-w", "1", "-p", "p1", "--weight", "3")
    run("ep", "create", "h2", "-s", "n", "-w", "1", "-p", "p2")
    assert fake.docs["endpoints"]["h1"]["weight"] == 3
    assert "weight" not in fake.docs["endpoints"]["h2"]


def test_help_in_groups(run: Run) -> None:
    """Otherwise a user has to find three options among fifteen flags."""
    lines = run("service", "create", "--help").splitlines()
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert [heading.partition(":")[0] for heading in headings] == ["Flags", "Session affinity", "Active checks"]
    texts = ("Tenant that", "How long it stays", "What http")
    assert len({line.index(text) for line in lines for text in texts if text in line}) == 1, "one table"


def test_inspect(run: Run) -> None:
    """Otherwise a user can't see what is behind what was asked."""
    run("net", "create", "n", "-s", "10.1.1.0/24")
    out = run("net", "inspect", "n")
    assert out.startswith('{\n  "Config": {\n    "key": "default:n"')
    assert json.loads(out)["Oper"] == {"numEndpoints": 1}


def test_removing(fake: FakeController, run: Run) -> None:
    """Otherwise what was made stays for ever."""
    add_service(fake, "s", networkName="n")
    run("tenant", "create", "blue")
    run("net", "create", "n", "-s", "10.1.1.0/24")
    assert run("service", "rm", "s") == "Deleting ServiceLB default:s\n"
    assert run("net", "delete", "n") == "Deleting network default:n\n"
    assert run("tenant", "rm", "blue") == "Deleting tenant blue\n"
    assert list(fake.docs["tenants"]) == ["default"]
    assert not fake.docs["networks"]


def test_tenants(run: Run) -> None:
    """Otherwise tenants can't be made or seen."""
    assert run("tenant", "create", "blue") == "Creating tenant: blue\n"
    assert run("tenant", "ls") == "Name\n----\nblue\ndefault\n"
    assert run("tenant", "ls", "-q") == "blue\ndefault\n"
    assert json.loads(run("tenant", "ls", "-j"))[0] == {"key": "blue", "tenantName": "blue"}
    assert json.loads(run("tenant", "inspect", "blue"))["Config"]["tenantName"] == "blue"


def test_bare_host(fake: FakeController, run: Run) -> None:
    """Otherwise a host without Docker can't be put into a network."""
    args = "--network n --ip 10.1.1.5 --mac 02:00:00:00:00:01 --switch 1 --port-name s1-eth1"
    out = run("endpoint", "create", "h1", *args.split(), "--label", "tier=web", "--label", "empty=")
    assert out == "Creating endpoint h1\n"
    assert fake.docs["endpoints"]["h1"] == {
        "key": "h1",
        "endpointID": "h1",
        "tenantName": "default",
        "networkName": "n",
        "ipAddress": ["10.1.1.5"],
        "macAddress": "02:00:00:00:00:01",
        "switch": "1",
        "portName": "s1-eth1",
        "labels": {"tier": "web", "empty": ""},
    }
    assert run("ep", "rm", "h1") == "Deleting endpoint h1\n"
    assert not fake.docs["endpoints"]
    run("ep", "create", "h1", "-s", "n", "-w", "1", "-p", "p1", "--ipv6", "fd00::5")
    assert fake.docs["endpoints"]["h1"]["ipAddress"] == ["fd00::5"]
    run("ep", "create", "h1", "-s", "n", "-w", "1", "-p", "p1", "--ipv6", "fd00::5", "--ip", "10.1.1.5")
    assert fake.docs["endpoints"]["h1"]["ipAddress"] == ["10.1.1.5", "fd00::5"]


def test_endpoint_ls(fake: FakeController, run: Run) -> None:
    """Otherwise a user can't see which container has which address."""
    fake.docs["endpoints"] = {
        "1": {
            "endpointID": CONTAINER,
            "tenantName": "default",
            "networkName": "n",
            "ipAddress": ["10.1.1.1", "fd00::1"],
            "macAddress": "02:00:00:00:00:01",
            "homingHost": "node1",
            "containerName": "/web\x1b[2J",
            "state": "running",
            "health": "healthy",
        },
        "2": {
            "endpointID": "bare-host-one-of-two",
            "tenantName": "default",
            "networkName": "n",
            "switch": "0000000000000001",
            "containerID": CONTAINER,
            "labels": {"canary": ""},
        },
    }
    assert [line.split() for line in run("ep", "ls").splitlines()] == [
        ["Endpoint", "Tenant", "Network", "Address", "MAC", "Host", "Container", "State", "Health"],
        ["--------", "------", "-------", "-------", "---", "----", "---------", "-----", "------"],
        [
            "abababababab",
            "default",
            "n",
            "10.1.1.1,fd00::1",
            "02:00:00:00:00:01",
            "node1",
            "web\\x1b[2J",
            "running",
            "healthy",
        ],
        ["bare-host-one-of-two", "default", "n", "0000000000000001", "abababababab"],
    ]
    assert json.loads(run("ep", "ls", "-j"))[1]["labels"] == {"canary": ""}
    assert run("ep", "ls", "-q") == f"{CONTAINER}\nbare-host-one-of-two\n"


def test_endpoint_inspect_by_container_name(fake: FakeController, run: Run) -> None:
    """Otherwise a user has to find an id before asking about a container."""
    fake.docs["endpoints"]["e1"] = {"endpointID": "e1", "containerName": "/web"}
    for name in ("e1", "web", "/web"):
        assert json.loads(run("endpoint", "inspect", name)) == {"Oper": fake.docs["endpoints"]["e1"]}


def test_hosts(fake: FakeController, run: Run) -> None:
    """Otherwise an operator can't see that an agent is gone."""
    fake.docs["hosts"] = {
        "a": {
            "hostName": "a",
            "switch": "0000000000000001",
            "tunnelAddress": "192.0.2.1",
            "hostAddress": "169.254.0.1",
            "state": "up",
            "since": "2026-01-01T10:00:00Z",
            "reason": "heartbeat 0 s ago, its switch answers",
        },
        "b": {"hostName": "b", "state": "down", "draining": True},
    }
    fake.docs["endpoints"] = {"e": {"endpointID": "e", "homingHost": "a"}}
    assert run("host", "ls").splitlines() == [
        "Host  Switch            Tunnel address  Host address  State           Since                 Endpoints",
        "----  ------            --------------  ------------  -----           -----                 ---------",
        "a     0000000000000001  192.0.2.1       169.254.0.1   up              2026-01-01T10:00:00Z  1",
        "b                                                     down, draining                        0",
    ]
    assert json.loads(run("host", "ls", "-j"))[1] == {"hostName": "b", "state": "down", "draining": True}
    assert json.loads(run("host", "inspect", "a")) == {
        "Config": {"hostName": "a", "switch": "0000000000000001", "tunnelAddress": "192.0.2.1"},
        "Oper": {
            "hostAddress": "169.254.0.1",
            "state": "up",
            "since": "2026-01-01T10:00:00Z",
            "reason": "heartbeat 0 s ago, its switch answers",
        },
    }
    assert run("host", "drain", "a") == "Draining host a\n"
    assert fake.docs["hosts"]["a"]["draining"]
    assert run("host", "undrain", "a") == "Undraining host a\n"
    assert not fake.docs["hosts"]["a"]["draining"]
    assert run("host", "rm", "b") == "Deleting host b\n"
    assert run("host", "ls", "-q") == "a\n"


def test_switches(fake: FakeController, run: Run) -> None:
    """Otherwise an operator can't see that a switch is gone or refuses flows."""
    doc = {"dpid": "01", "connected": True, "ports": [{"number": 1}, {"number": 2}], "flows": 30, "groups": 2}
    doc["errors"] = {"n": "no"}
    fake.docs["switches"]["01"] = doc
    assert [line.split() for line in run("switch", "ls").splitlines()] == [
        ["Switch", "Connected", "Ports", "Flows", "Groups", "Errors"],
        ["------", "---------", "-----", "-----", "------", "------"],
        ["01", "yes", "2", "30", "2", "1"],
    ]
    assert json.loads(run("switch", "inspect", "01")) == {"Oper": doc}


FLOW = {
    "table": "route", "priority": 100, "packets": 3, "bytes": 300, "kind": "route", "owners": ["switch"],
    "match": "ip dst=10.1.1.1", "actions": "decrement TTL, goto reply",
}  # fmt: skip


def test_flows(fake: FakeController, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise only ovs-ofctl shows what is in a switch, in numbers."""
    assert main(["switch", "flows"]) == 1
    assert "DPID required: no switch is connected" in capsys.readouterr().err
    fake.docs["switches"]["01"] = {"dpid": "01"}
    fake.flows = {"flows": [FLOW], "more": 7, "learned": 2}
    assert run("switch", "flows", "--table", "route", "--owner", "switch").splitlines() == [
        "Table  Priority  Packets  Match            Actions",
        "-----  --------  -------  -----            -------",
        "route  100       3        ip dst=10.1.1.1  decrement TTL, goto reply",
        "and 7 more: choose some with --table or --owner",
        "and 2 learned by session affinity, in table sticky",
    ]
    assert fake.seen[-1][1] == "/api/v1/switches/01/flows/?table=route&owner=switch"
    assert json.loads(run("switch", "flows", "02", "--json")) == fake.flows
    assert fake.seen[-1][1] == "/api/v1/switches/02/flows/"
    fake.docs["switches"]["02"] = {"dpid": "02"}
    assert main(["switch", "flows"]) == 1
    assert "DPID required: 2 switches are connected: 01, 02" in capsys.readouterr().err


def test_flows_fit_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long flows would be broken over several lines, and none could be found."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    (row,) = _fitted([("route", "100", "3", "ip dst=10.1.1.1 " * 9, "goto reply, " * 9)])
    assert row[:3] == ("route", "100", "3")
    assert row[3].endswith("…") and row[4].endswith("…")
    assert len("  ".join([row[0], "Priority", "Packets", *row[3:]])) == 80


def test_controllers(fake: FakeController, run: Run) -> None:
    """Otherwise nobody sees that the controller that is to take over has been dead for a week."""
    fake.docs["controllers"] = {
        url: {"url": url, "leads": url == "http://b:1"} for url in ("http://b:1", "http://a:1")
    }
    assert [line.split() for line in run("controller", "ls").splitlines()] == [
        ["Controller", "Leads"],
        ["----------", "-----"],
        ["http://a:1", "no"],
        ["http://b:1", "yes"],
    ]
    assert run("controller", "ls", "-q") == "http://a:1\nhttp://b:1\n"


def test_controllers_that_anybody_can_use(fake: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise nobody notices that the whole office can delete networks."""
    fake.docs["controllers"] = {url: {"url": url, "leads": False, "open": url != "b"} for url in ("c", "b", "a")}
    for flags in ([], ["-q"], ["--json"]):
        assert main(["controller", "ls", *flags]) == 0
        out, err = capsys.readouterr()
        assert err == "Warning: no authentication, whoever reaches it can use it: a, c\n"
        assert "Warning" not in out


def test_version(run: Run) -> None:
    """Otherwise a report of a fault can't say which versions it is about."""
    assert run("version") == "Client Version:\nVersion: 0.1.0\n\nServer Version:\nVersion: 9.9.9\n"
    assert run("-v") == run("--version") == "netctl 0.1.0\n"
