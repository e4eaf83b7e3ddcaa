"""Everything here runs on the real Open vSwitch of this machine, on bridges of its own."""

from __future__ import annotations

import pytest

from tests.kit import ovs


@pytest.fixture(scope="session", autouse=True)
def _swept() -> None:
    ovs.sweep()
