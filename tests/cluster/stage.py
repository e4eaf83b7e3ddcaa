"""What the tests of the cluster play on: a service with a provider on each host, and clients on two of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.machines import Cluster, Member
from tests.e2e.test_walkthrough import VIP, Inside


@dataclass
class Stage:
    """The service over one provider a host, and a client on each of the first two."""

    cluster: Cluster
    inside: dict[str, Inside] = field(default_factory=dict)

    def start(self, member: Member, name: str, network: str, *options: str) -> Inside:
        """A container, with a way into it."""
        return self.enter(member, name, member.container(name, network, "--restart=always", *options))

    def enter(self, member: Member, name: str, address: str) -> Inside:
        """The way into a container."""
        self.inside[name] = Inside(member, name, address).__enter__()
        return self.inside[name]

    @property
    def clients(self) -> tuple[Inside, Inside]:
        """One on the first host, one on the second."""
        return self.inside["c1"], self.inside["c2"]

    def providers(self) -> str:
        """Healthy ones and all, as `netctl service ls` shows them."""
        return str(self.cluster.netctl("service", "ls").splitlines()[-1].split()[5])

    def answering(self, client: str = "c1", times: int = 30) -> set[str]:
        """Who answers connections to the VIP."""
        return set(self.inside[client].who("tcp", VIP, 8080, times))

    def host(self, name: str) -> dict[str, Any]:
        """What `netctl host ls` knows of a host."""
        listed: list[dict[str, Any]] = json.loads(self.cluster.netctl("host", "ls", "-j"))
        return next(doc for doc in listed if doc["hostName"] == name)

    def endpoint(self, name: str) -> dict[str, Any]:
        """A container's endpoint in the model; empty: there is none."""
        return self.cluster.endpoints().get(name, {})

    def switches(self) -> list[dict[str, Any]]:
        """The connected switches."""
        found: list[dict[str, Any]] = json.loads(self.cluster.rest("/api/v1/switches/", check=False) or "[]")
        return found

    def all_settled(self) -> bool:
        """Whether every switch is connected and carries out the model."""
        found = self.switches()
        return len(found) == len(self.cluster.members) and all(switch["settled"] for switch in found)
