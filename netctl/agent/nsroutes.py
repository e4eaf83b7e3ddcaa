"""Rules and routes in a container's network namespace, by netlink: read, and made as wished (`wayback`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from netctl.agent.netns import inside
from netctl.agent.state import Address
from netctl.agent.wayback import MAIN, PROTOCOL, Device, Facts, Route, Rule, Wish, everything

FAMILIES = {4: AF_INET, 6: AF_INET6}
VERSIONS = {AF_INET: 4, AF_INET6: 6}
GLOBAL, ON_LINK = 0, 253  # scopes
UNICAST = 1  # RTN_UNICAST
ONLINK = 4  # RTNH_F_ONLINK: the gateway is in the interface's own network, and need not be looked up
NOT_SUPPRESSED = 0xFFFFFFFF


class Namespace:
    """The namespace of one container, while it is open."""

    def __init__(self, ip: IPRoute) -> None:
        self._ip = ip

    def read(self) -> Facts:
        """What there is."""
        addresses: dict[int, list[Any]] = {}
        for found in self._ip.get_addr():
            if found["scope"] == GLOBAL and found["family"] in VERSIONS:
                text = found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS")
                addresses.setdefault(found["index"], []).append(ip_interface(f"{text}/{found['prefixlen']}"))
        devices = []
        for link in self._ip.get_links():
            info = link.get_attr("IFLA_LINKINFO")
            kind = info.get_attr("IFLA_INFO_KIND") if info else None
            own = tuple(addresses.get(link["index"], ()))
            devices.append(Device(link["index"], link.get_attr("IFLA_ADDRESS") or "", kind or "", own))
        defaults: dict[int, tuple[int, Address | None, int]] = {}
        routes = set()
        for route in self._ip.get_routes(family=0):
            version = VERSIONS.get(route["family"])
            if version is None:
                continue
            if route["proto"] == PROTOCOL:
                routes.add(_route(route, version))
            elif _table(route) == MAIN and not route["dst_len"] and route["type"] == UNICAST:
                one = (route.get_attr("RTA_PRIORITY") or 0, _gateway(route), route.get_attr("RTA_OIF") or 0)
                if version not in defaults or one[0] < defaults[version][0]:
                    defaults[version] = one
        rules = {_rule(r) for r in self._ip.get_rules(family=0) if r.get_attr("FRA_PROTOCOL") == PROTOCOL}
        kept = {version: (gateway, device) for version, (_, gateway, device) in defaults.items()}
        return Facts(tuple(devices), kept, frozenset(routes), frozenset(rules))

    def has(self, facts: Facts) -> bool:
        """Whether these are its interfaces."""
        found = {(link["index"], link.get_attr("IFLA_ADDRESS") or "") for link in self._ip.get_links()}
        return found == {(device.index, device.mac) for device in facts.devices}

    def carry_out(self, facts: Facts, wish: Wish) -> None:
        """Write the difference: nothing is taken away before what replaces it is there."""
        for route in wish.routes - facts.routes:
            self._ip.route("replace", **_route_words(route))
        for rule in wish.rules - facts.rules:
            self._ip.rule("add", **_rule_words(rule))
        for rule in facts.rules - wish.rules:
            self._ip.rule("del", **_rule_words(rule))
        replaced = {route.place for route in wish.routes}
        for route in _surplus(facts.routes - wish.routes, replaced):
            self._ip.route("del", **_route_words(route))


@contextmanager
def opened(path: str) -> Iterator[Namespace]:
    """The namespace that a file stands for. OSError where it can't be entered; `NetlinkError` from what is done."""
    if os.stat(path).st_ino == os.stat("/proc/thread-self/ns/net").st_ino:
        raise OSError(f"{path} is this host's own network namespace")
    with inside(path):
        ip = IPRoute()
    with ip:
        yield Namespace(ip)


def _surplus(routes: Iterable[Route], replaced: set[tuple[Any, ...]]) -> Iterator[Route]:
    return (route for route in routes if route.place not in replaced)


def _table(route: Any) -> int:
    return int(route.get_attr("RTA_TABLE") or route["table"])


def _gateway(route: Any) -> Address | None:
    text = route.get_attr("RTA_GATEWAY")
    return ip_address(text) if text else None


def _route(route: Any, version: int) -> Route:
    text = route.get_attr("RTA_DST")
    subnet = ip_network(f"{text}/{route['dst_len']}") if text else everything(version)
    device = route.get_attr("RTA_OIF") or 0 if route["type"] == UNICAST else 0
    return Route(_table(route), subnet, _gateway(route), device, route.get_attr("RTA_PRIORITY") or 0)


def _rule(rule: Any) -> Rule:
    text = rule.get_attr("FRA_SRC")
    specific = rule.get_attr("FRA_SUPPRESS_PREFIXLEN") not in (None, NOT_SUPPRESSED)
    version = VERSIONS.get(rule["family"], 0)
    table = rule.get_attr("FRA_TABLE") or rule["table"]
    return Rule(version, rule.get_attr("FRA_PRIORITY") or 0, ip_address(text) if text else None, table, specific)


def _route_words(route: Route) -> dict[str, Any]:
    words: dict[str, Any] = {
        "family": FAMILIES[route.subnet.version],
        "dst": str(route.subnet),
        "table": route.table,
        "proto": PROTOCOL,
        "priority": route.metric,
    }
    if not route.device:
        return {**words, "type": "unreachable"}
    words["oif"] = route.device
    if route.gateway is not None:
        return {**words, "gateway": str(route.gateway), "flags": ONLINK}
    return {**words, "scope": ON_LINK if route.subnet.version == 4 else GLOBAL}


def _rule_words(rule: Rule) -> dict[str, Any]:
    words: dict[str, Any] = {
        "family": FAMILIES[rule.version],
        "priority": rule.priority,
        "table": rule.table,
        "protocol": PROTOCOL,
    }
    if isinstance(rule.source, IPv4Address):
        words |= {"src": str(rule.source), "src_len": 32}
    elif isinstance(rule.source, IPv6Address):
        words |= {"src": str(rule.source), "src_len": 128}
    if rule.specific:
        words["suppress_prefixlen"] = 0
    return words


__all__ = ["Namespace", "NetlinkError", "opened"]
