"""Which providers a client may get, and at which of their addresses: it depends on the network that the client is in.

Mostly it does not, and there is one scope. Who has an address in the client's own network is reached there. Who has no
address from which answers come further than the VIP's network is for the clients in that network: then these have a
scope of their own.
"""

from __future__ import annotations

from typing import NamedTuple

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import Family
from ryu_apps.pipeline.tables import NETWORK
from topology.model import Endpoint, Service
from topology.providers import Provider, chosen, providers


class Choice(NamedTuple):
    """A provider that may get new connections: at ``at``, but for clients in the networks of these numbers ``near``."""

    provider: Provider
    at: Endpoint
    near: tuple[tuple[int, Endpoint], ...] = ()

    def up(self, ctx: Context) -> bool:
        """Whether any of its addresses has a link, seen from this switch."""
        return ctx.up(self.at) or any(ctx.up(endpoint) for _, endpoint in self.near)

    @property
    def number(self) -> int:
        """What stands for the provider where it was chosen, and its address is still to be found."""
        return self.provider.lead.number


class Scope(NamedTuple):
    """What clients may get that are in ``network``, by its number; 0: all those that are not in another scope."""

    network: int
    choices: tuple[Choice, ...]

    @property
    def terms(self) -> dict[str, int]:
        """What its clients' packets meet."""
        return {NETWORK: self.network} if self.network else {}

    @property
    def rank(self) -> int:
        """What a flow of this scope has in priority above that of all."""
        return 1 if self.network else 0


def scopes(ctx: Context, service: Service, family: Family) -> list[Scope]:
    """The scopes of the VIP of this family, seen from this switch; that of all first."""
    model, own = ctx.model, service.network_key
    everywhere: list[tuple[Provider, Endpoint, list[Endpoint]]] = []
    inside: list[Choice] = []
    for provider in providers(model, service):
        candidates = [e for e in provider.endpoints if model.serves(e, service) and ctx.linked(e)]
        here = chosen(model, service, candidates, family.version, own)
        if here is not None:
            inside.append(Choice(provider, here))
        at = chosen(model, service, candidates, family.version, "")
        if at is not None:
            everywhere.append((provider, at, candidates))
    # whom all may get, those inside may get as well
    same = len(inside) == len(everywhere)
    found = [Choice(p, at, _near(ctx, service, family, at, c, inside=same)) for p, at, c in everywhere]
    if same:
        return [_scope(ctx, 0, found)]
    return [_scope(ctx, 0, found), _scope(ctx, model.networks[own].number, inside)]


def _scope(ctx: Context, network: int, choices: list[Choice]) -> Scope:
    """The switch passes over a port that is down as long as another is up. If all are down, clients are refused."""
    return Scope(network, tuple(choices) if any(choice.up(ctx) for choice in choices) else ())


def _near(
    ctx: Context, service: Service, family: Family, at: Endpoint, candidates: list[Endpoint], *, inside: bool
) -> tuple[tuple[int, Endpoint], ...]:
    """Where clients in a network of the provider's reach it, if not at ``at``; ``inside``: in the VIP's own as well."""
    found: dict[int, Endpoint] = {}
    for network in (ctx.network_of(e) for e in candidates if len(candidates) > 1):
        if network.key != service.network_key or inside:
            there = chosen(ctx.model, service, candidates, family.version, network.key)
            if there is not None and there is not at:
                found[network.number] = there
    return tuple(sorted(found.items()))
