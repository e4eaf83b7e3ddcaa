"""What conntrack keeps of datagrams in fragments, straight to a provider: it goes with the provider."""

from __future__ import annotations

from tests.kit.hosts import ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for


def test_what_was_in_fragments_goes_with_the_provider(bare: Lab) -> None:
    """A container that is started anew with an address would not get what is meant for it: it is another's by then."""
    bare.network("srv", "100.1.1.0/24")
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    bare.network("cli", "20.1.1.0/24", "20.1.1.254")
    client = bare.host("c1", "cli", "20.1.1.1")
    provider = bare.host("w9", "web", "10.1.1.9", {"tier": "other"}, serve=["udp:99"])
    bare.service("other", "srv", ["99:99:UDP"], ["tier=other"])
    bare.settled()
    with client.connect("udp", provider.ip, 99) as asking:
        for size in (5, 4000, 5, 4000):
            assert ask_again(asking, size).split()[0] == "w9"

    def tracked() -> list[str]:
        return [line for line in bare.instance.conntrack() if f"={provider.ip}," in line]

    assert len(tracked()) == 2
    bare.rest.delete_endpoint("w9")
    wait_for(lambda: not tracked(), "it to be forgotten")
