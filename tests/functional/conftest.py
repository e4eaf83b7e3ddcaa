"""Everything here runs on the real Open vSwitch of this machine, on bridges of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pytest

from tests.kit import ovs, private_ovs
from tests.kit.controller import log_of_the_running
from tests.kit.hosts import Host
from tests.kit.lab import Lab, lab
from tests.kit.pair import World, pair
from tests.kit.running import plug_in, running


@pytest.fixture(scope="session", autouse=True)
def _swept() -> None:
    private_ovs.sweep()
    ovs.sweep()


@pytest.fixture(scope="session")
def instance() -> Iterator[private_ovs.Private]:
    """An Open vSwitch of our own, for all tests that do not kill it."""
    with private_ovs.private("o") as made:
        yield made


@pytest.fixture(scope="module")
def bare(instance: private_ovs.Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with a controller that knows of nothing yet, for one module."""
    with lab(tmp_path_factory.mktemp("lab"), instance) as made:
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two hosts joined by a tunnel, for one module."""
    with pair(tmp_path_factory.mktemp("pair")) as made:
        yield made


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Three hosts that may be providers and a client; modules with others have their own."""
    return plug_in(bare)


@pytest.fixture
def client(bare: Lab, hosts: Mapping[str, Host]) -> Iterator[Host]:
    """The client, while a service over the first two runs."""
    with running(bare, hosts) as made:
        yield made


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def version(request: pytest.FixtureRequest) -> int:
    """Of the addresses that the test is run with."""
    return int(request.param)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    """A failed test shows what the running controllers said meanwhile."""
    outcome = yield
    report = outcome.get_result()
    if report.when != "setup":
        said = log_of_the_running()
        if report.failed and said:
            report.sections.append(("controller log", said))
