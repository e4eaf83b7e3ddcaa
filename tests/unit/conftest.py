"""Places for stores. There is one etcd for all tests that need one; each takes a prefix of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

from tests.kit import etcd
from tests.unit.modelkit import close_files
from tests.unit.places import Place
from topology.etcd_store import EtcdStore
from topology.sqlite_store import SqliteStore

_NUMBERS = itertools.count(1)

settings.register_profile("netctl", deadline=None)  # a busy machine is no failure
settings.load_profile("netctl")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What a test opens by a `Door` is closed after it."""
    yield
    close_files()


@pytest.fixture(scope="session")
def etcd_member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[etcd.Member]:
    """A cluster of one."""
    with etcd.cluster(tmp_path_factory.mktemp("etcd")) as members:
        yield members[0]


@pytest.fixture
def etcd_url(etcd_member: etcd.Member) -> str:
    """A place for a store that nobody has used."""
    return etcd.url([etcd_member], f"/t{next(_NUMBERS)}")


@pytest.fixture
def shared(etcd_url: str) -> Iterator[Place]:
    """A place for a store that several write to."""
    made = Place(partial(EtcdStore, etcd_url))
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place for a store, of each kind."""
    if request.param == "sqlite":
        made = Place(partial(SqliteStore, tmp_path / "made" / "here" / "netctl.db"), reading=True)
    else:
        made = Place(partial(EtcdStore, request.getfixturevalue("etcd_url")))
    yield made
    made.close()
