"""A write door on a store in memory, with a clock that tests turn."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.kit.docs import endpoint_doc, network_doc, service_doc
from topology.commands import Commands
from topology.model import Commit, Object
from topology.snapshot import Model
from topology.sqlite_store import SqliteStore
from topology.store import Store

SRV = network_doc("default", "srv", "100.1.1.0/24", gateway="100.1.1.254")
WEB = network_doc("default", "web", "10.1.1.0/24", gateway="10.1.1.254")
DUAL = network_doc(
    "default", "dual", "10.6.1.0/24", gateway="10.6.1.254", subnet6="fd00:6:1::/64", gateway6="fd00:6:1::fe"
)
APP = service_doc("default", "app", "srv", selectors=["tier=web", "release=stable"], ports=["80:8080:TCP"])
WEB1 = endpoint_doc("web1", "default", "web", labels={"tier": "web", "release": "stable", "v": "1"})


@dataclass
class Clock:
    """Seconds since the epoch, moved by hand."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


_files: list[SqliteStore] = []  # of this test's doors


def close_files() -> None:
    """At a test's end: a database that nobody closes is an error in whichever test collects it."""
    while _files:
        _files.pop().close()


@dataclass
class Door:
    """Commands with everything around them. A store in SQLite is closed when the test is over."""

    store: Store = field(default_factory=lambda: SqliteStore(":memory:"))
    clock: Clock = field(default_factory=Clock)
    model: Model = field(default_factory=Model)
    commits: list[Commit] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.store, SqliteStore):
            _files.append(self.store)
        self.commands = Commands(self.model, self.store, self.clock)
        self.commands.subscribe(self.commits.append)

    def reopened(self) -> Door:
        """The same store as a controller sees it that has just started."""
        return Door(self.store, self.clock)

    def state(self) -> object:
        """All that a refused command must leave as it is."""
        revision, objects, meta = self.store.load()
        return (
            self.model.revision,
            contents(self.model),
            revision,
            {(o.kind, o.key): o for o in objects},
            meta,
            len(self.commits),
        )


def contents(model: Model) -> dict[tuple[str, str], Object]:
    """Every object of a model, by name."""
    return {(o.kind, o.key): o for o in model.objects()}


def furnished() -> Door:
    """Networks `srv` and `web` (gateways .254) and service `app` in `srv`; an empty tenant `blue`."""
    door = Door()
    commands = door.commands
    commands.put_network(SRV)
    commands.put_network(WEB)
    commands.put_service(APP)
    commands.put_tenant("blue")
    return door
