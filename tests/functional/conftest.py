"""Everything here runs on the real Open vSwitch of this machine, on bridges of its own."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.kit import ovs, private_ovs
from tests.kit.controller import log_of_the_running


@pytest.fixture(scope="session", autouse=True)
def _swept() -> None:
    private_ovs.sweep()
    ovs.sweep()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    """A failed test shows what the running controllers said meanwhile."""
    outcome = yield
    report = outcome.get_result()
    if report.when != "setup":
        said = log_of_the_running()
        if report.failed and said:
            report.sections.append(("controller log", said))
