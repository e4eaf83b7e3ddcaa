"""The model's indexes against what a look at every object says."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.docs import replace, service_doc
from tests.unit.modelkit import DUAL, SRV, WEB1, Door, contents, furnished
from topology.indexes import ENDPOINTS_OF_NETWORK
from topology.model import Change, Commit, Endpoint, Labels, Network, Object, Published, Service
from topology.snapshot import Model

LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2"]), max_size=3)


def _labels(values: dict[str, str]) -> Labels:
    return tuple(sorted(values.items()))


def _endpoint(number: int, labels: dict[str, str], tenant: str = "t") -> Endpoint:
    address = IPv4Address(0x0A000000 + number)
    mac = f"02:00:00:00:00:{number:02x}"
    return Endpoint(f"e{number}", tenant, "n", number, (address,), mac, labels=_labels(labels))


def _service(number: int, selectors: dict[str, str], tenant: str = "t") -> Service:
    vip = IPv4Address(0x64000000 + number)
    return Service(tenant, f"s{number}", number, "srv", (vip,), (), _labels(selectors))


def _loaded(*objects: Object) -> Model:
    model = Model()
    model.load(1, objects)
    return model


@pytest.mark.parametrize(
    ("selectors", "labels", "selected"),
    [
        ({"tier": "web"}, {"tier": "web", "version": "1"}, True),
        ({"tier": "web", "env": "prod"}, {"tier": "web"}, False),
        ({"tier": "web"}, {"tier": "db"}, False),
        ({"tier": ""}, {"tier": "web"}, False),
        ({"tier": ""}, {}, False),
        ({"tier": ""}, {"tier": ""}, True),
        ({}, {"tier": "web"}, False),
        ({}, {}, False),
    ],
)
def test_who_is_a_provider(selectors: dict[str, str], labels: dict[str, str], selected: bool) -> None:
    """A provider's labels are a superset; an empty value is a value, not a wildcard; no selector selects none."""
    service, endpoint = _service(1, selectors), _endpoint(1, labels)
    model = _loaded(service, endpoint)
    assert model.providers(service) == ([endpoint] if selected else [])
    assert model.selected_by(endpoint) == ([service] if selected else [])


def test_providers_are_of_the_services_tenant() -> None:
    """One tenant's containers never serve another's clients."""
    service = _service(1, {"a": "1"})
    assert _loaded(service, _endpoint(1, {"a": "1"}, "other")).providers(service) == []


def test_sick_and_stopped_providers_are_still_providers() -> None:
    """`service inspect` shows them; who gets connections is decided by `serving`."""
    service = _service(1, {"a": "1"})
    sick = replace(_endpoint(2, {"a": "1"}), health="unhealthy")
    stopped = replace(_endpoint(1, {"a": "1"}), state="stopped")
    assert _loaded(service, sick, stopped).providers(service) == [stopped, sick]


@given(st.lists(LABELS, max_size=8), st.lists(LABELS, max_size=8), st.data())
def test_indexes_agree_with_brute_force(
    labels: list[dict[str, str]], selectors: list[dict[str, str]], data: st.DataObject
) -> None:
    """Whatever comes and goes, in whatever order, providers are who they should be."""
    model = Model()
    objects: list[Object] = [_endpoint(n, v) for n, v in enumerate(labels, 1)]
    objects += [_service(n, v) for n, v in enumerate(selectors, 1)]
    steps = data.draw(st.permutations(objects + objects)) if objects else []
    for revision, value in enumerate(steps, 1):
        there = model.get(value.kind, value.key)
        change = Change(None, value) if there is None else Change(there, None)
        if there is not None and data.draw(st.booleans()):
            new = _labels(data.draw(LABELS))
            if isinstance(there, Endpoint):
                change = Change(there, replace(there, labels=new))
            elif isinstance(there, Service):
                change = Change(there, replace(there, selectors=new))
        model.apply(Commit(revision, (change,)))
        for service in model.services.values():
            expected = [
                e
                for e in sorted(model.endpoints.values(), key=lambda e: e.number)
                if service.selectors and set(service.selectors) <= set(e.labels)
            ]
            assert model.providers(service) == expected
        for endpoint in model.endpoints.values():
            assert model.selected_by(endpoint) == [
                s for s in model.services_of_tenant("t") if endpoint in model.providers(s)
            ]


def test_indexes_forget() -> None:
    """A controller that runs for months doesn't grow with what is gone."""
    model = Model()
    service, endpoint = _service(1, {"a": "1", "b": "2"}), _endpoint(1, {"a": "1", "b": "2"})
    service = replace(service, published=(Published(80, 80, "TCP"),))
    empty = {name: len(value) for name, value in vars(model).items() if isinstance(value, dict)}
    model.apply(Commit(1, (Change(None, service), Change(None, endpoint))))
    model.apply(Commit(2, (Change(service, None), Change(endpoint, None))))
    assert {name: len(value) for name, value in vars(model).items() if isinstance(value, dict)} == empty
    assert all(model.used_numbers(pool) == {} for pool in ("service", "endpoint"))


def test_groups() -> None:
    """Lists for the REST API and the compilers hold what belongs there, oldest first."""
    door = furnished()
    model = door.model
    door.commands.put_endpoint(replace(WEB1, id="b", host="h1"))
    door.commands.put_endpoint(replace(WEB1, id="a", host="h1", labels={}))
    door.commands.put_endpoint(replace(WEB1, id="c", switch=7))
    assert [n.name for n in model.networks_of("default")] == ["srv", "web"]
    assert model.networks_of("blue") == []
    assert [s.name for s in model.services_of("default:srv")] == ["app"]
    assert [s.name for s in model.services_of_tenant("default")] == ["app"]
    assert model.services_of("default:web") == []
    assert [e.id for e in model.endpoints_of("default:web")] == ["b", "a", "c"]
    assert [e.id for e in model.endpoints_of_host("h1")] == ["b", "a"]
    assert [e.id for e in model.endpoints_of_switch(7)] == ["c"]
    assert model.count(ENDPOINTS_OF_NETWORK, "default:web") == 3
    assert model.by_mac("default:web", "02:42:0a:01:01:02") is model.endpoints["a"]
    assert model.by_tag("vxlan", 2) is model.networks["default:web"]
    assert model.by_number("network", 2) is model.networks["default:web"]
    assert model.by_number("port", 1) is model.services["default:app"]


def test_holders() -> None:
    """A tool that asks who has an address is told, also about the gateway."""
    door = furnished()
    model = door.model
    endpoint = door.commands.put_endpoint(WEB1)
    lease = door.commands.grant("default", "web", None, "h1")

    def holder(address: str, network: str = "default:web") -> object:
        return model.holder(network, IPv4Address(address))

    assert holder("10.1.1.254") == "gateway"
    assert holder("10.1.1.1") == endpoint
    assert holder("10.1.1.2") == lease
    assert holder("100.1.1.1", "default:srv") == model.services["default:app"]
    assert holder("10.1.1.3") is None
    assert holder("10.1.1.3", "default:none") is None
    assert [str(a) for a in model.held("default:web")] == ["10.1.1.1", "10.1.1.2", "10.1.1.254"]
    door.commands.delete_endpoint("web1")
    assert holder("10.1.1.1") is None
    assert [str(le.address) for le in model.leases_of("default:web")] == ["10.1.1.1", "10.1.1.2"]


@pytest.mark.parametrize(
    ("address", "around"),
    [
        ("10.6.1.9", ["default:dual", "blue:dual"]),
        ("fd00:6:1::9", ["default:dual", "blue:dual", "blue:wide"]),
        ("fd00:6:1:0:ffff:ffff:ffff:ffff", ["default:dual", "blue:dual", "blue:wide"]),
        ("fd00:6:1:1::", ["blue:wide"]),
        ("fd00:6:2::", []),
        ("::a06:109", []),
        ("::", []),
    ],
)
def test_networks_around_an_address(address: str, around: list[str]) -> None:
    """A host that is seen on the wire is taken for one of the network that its address, of either family, is in."""
    door = furnished()
    door.commands.put_network(DUAL)
    door.commands.put_network(replace(DUAL, tenant="blue"))
    door.model.apply(
        Commit(
            door.model.revision + 1,
            (Change(None, Network(
                "blue", "wide", 9, IPv4Network("10.9.0.0/16"), IPv4Address("10.9.0.1"), IPv4Address("10.9.255.254"),
                tag=9, subnet6=IPv6Network("fd00:6:1::/48"),
            )),),
        )
    )  # fmt: skip
    assert [n.key for n in door.model.networks_around(ip_address(address))] == around


def test_holders_of_both_families() -> None:
    """The list of a network's addresses has both families, each in order, with both gateways."""
    door = furnished()
    door.commands.put_network(DUAL)
    door.commands.put_service(service_doc("default", "d", "dual"))
    door.commands.grant("default", "dual", "fd00:6:1::2", "h1")
    model = door.model
    assert [str(a) for a in model.held("default:dual")] == [
        "10.6.1.1", "10.6.1.254", "fd00:6:1::1", "fd00:6:1::2", "fd00:6:1::fe",
    ]  # fmt: skip
    assert model.holder("default:dual", ip_address("fd00:6:1::fe")) == "gateway"
    assert model.holder("default:dual", ip_address("fd00:6:1::1")) is model.services["default:d"]
    door.commands.delete_service("default:d")
    assert [str(le.address) for le in model.leases_of("default:dual")] == ["10.6.1.1", "fd00:6:1::1", "fd00:6:1::2"]


def test_an_address_may_change_hands_in_one_commit() -> None:
    """The order of changes within a commit doesn't matter."""
    net = Network("t", "n", 1, IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1"), IPv4Address("10.0.0.254"))
    old, new = _endpoint(1, {}), replace(_endpoint(1, {}), id="new")
    model = _loaded(net, old)
    model.apply(Commit(2, (Change(None, new), Change(old, None))))
    assert model.holder("t:n", IPv4Address("10.0.0.1")) == new
    assert model.by_mac("t:n", new.mac) == new
    assert model.by_number("endpoint", 1) == new


def test_a_commit_is_applied_once_and_in_order() -> None:
    """A commit delivered twice is a defect that must not pass unseen."""
    model = _loaded()
    with pytest.raises(ValueError, match="revision 1 applied after 1"):
        model.apply(Commit(1, (Change(None, _endpoint(1, {})),)))
    assert contents(model) == {}


def test_a_common_selector_costs_nothing() -> None:
    """With environment=prod on every service, one container's start still looks at its own services only."""
    door = Door()
    door.commands.put_network(SRV)
    for number in range(200):
        door.commands.put_service(
            service_doc("default", f"s{number}", "srv", "", ["environment=prod", "release=stable", f"x=s{number}"])
        )
    assert max(len(group) for group in door.model._indexes.selecting._services.values()) <= 2
