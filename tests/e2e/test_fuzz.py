"""The four fuzzers at once, for a moment; ``python -m tests.fuzz.all`` runs them for an hour."""

from __future__ import annotations

from tests.fuzz.all import everything


def test_four_fuzzers_beside_a_client() -> None:
    """What a container, a web client, a switch and a plugin's caller make up would end a part, or cost connections."""
    outcome = everything(8, 2611)
    assert not outcome.wrong
