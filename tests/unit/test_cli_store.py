"""``netctl store``: a model moves from one store to another, whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netctl.cli import main
from tests.kit.docs import check_doc, host_doc, network_doc, replace
from tests.unit.modelkit import APP, SRV, WEB, WEB1, Door, contents
from topology.sqlite_store import SqliteStore
from topology.stores import open_store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command line: exit status, output, what it complained of."""

    def run(*args: str, given: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        status = main(["store", *args])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def full(tmp_path: Path) -> Door:
    """A store with one of each kind, and numbers that were freed."""
    door = Door(SqliteStore(tmp_path / "full.db"))
    commands = door.commands
    for spec in (SRV, WEB):
        commands.put_network(spec)
    commands.put_service(replace(APP, check=check_doc("tcp")))
    commands.put_endpoint(WEB1)
    commands.set_passed("web1", "default:app", True)
    commands.put_host(host_doc("h", 7, "192.0.2.1"))
    commands.grant("default", "web", None, "h")
    commands.release("default", "web", commands.grant("default", "web", None, "h").address)
    commands.put_tenant("blue")
    commands.put_network(network_doc("blue", "gone", "10.1.1.0/24"))
    commands.delete_network("blue:gone")
    return door


def exported(run: Run, place: object) -> str:
    status, out, err = run("export", "--store", str(place))
    assert (status, err) == (0, "")
    return out


@pytest.mark.parametrize("kind", ["sqlite", "etcd"])
def test_a_model_moves(
    run: Run, full: Door, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Who goes from one controller to several would have to make everything anew, and cut every connection."""
    place = str(tmp_path / "new.db") if kind == "sqlite" else str(request.getfixturevalue("etcd_url"))
    text = exported(run, tmp_path / "full.db")
    assert text.count("\n") == len(contents(full.model)) + 2

    told = f"Imported {len(contents(full.model))} objects into {place}\n"
    assert run("import", "--store", place, given=text) == (0, "", told)

    moved = Door(open_store(place), full.clock)
    assert contents(moved.model) == contents(full.model)
    assert moved.commands._pools["network"].freed == full.commands._pools["network"].freed
    assert moved.commands.put_network(network_doc("blue", "next", "10.1.1.0/24")).number == 4, "none is used again"
    moved.store.close()
    again = exported(run, place)
    assert json.loads(again.splitlines()[0])["revision"] < json.loads(text.splitlines()[0])["revision"]


def test_a_controller_that_runs_on_it_follows(run: Run, full: Door, tmp_path: Path, etcd_url: str) -> None:
    """It would write over what was imported."""
    running = Door(open_store(etcd_url))
    text = exported(run, tmp_path / "full.db")
    assert run("import", "--store", etcd_url, given=text)[0] == 0
    running.commands.put_tenant("late")
    assert contents(full.model).items() <= contents(running.model).items()
    running.store.close()


def test_a_store_in_use_is_left_alone(run: Run, full: Door, tmp_path: Path) -> None:
    """Two models would be mixed."""
    text = exported(run, tmp_path / "full.db")
    used = Door(SqliteStore(tmp_path / "used.db"))
    used.commands.put_network(SRV)
    before = used.state()
    status, out, err = run("import", "--store", str(tmp_path / "used.db"), given=text)
    assert (status, out) == (3, "")
    assert err.startswith(f"store {tmp_path / 'used.db'} is in use by another controller") and err.count("\n") == 1
    assert used.state() == before
    used.store.close()
    refused = (3, "", "the store is in use: it holds a network; import into a new one\n")
    assert run("import", "--store", str(tmp_path / "used.db"), given=text) == refused


def _edit(text: str, kind: str, **fields: object) -> str:
    """The export with fields of the first object of a kind changed."""
    lines = [json.loads(line) for line in text.splitlines()]
    next(line for line in lines if line.get("kind") == kind)["object"] |= fields
    return "\n".join(json.dumps(line) for line in lines)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda t: "", "the last line is missing: the export was cut off"),
        (lambda t: t[: t.rindex("{")], "the last line is missing: the export was cut off"),
        (lambda t: t[:-30], "line 10: not what netctl exports: "),
        (lambda t: "\n".join(t.splitlines()[:3] + t.splitlines()[4:]), "9 objects were written, 8 are here"),
        (lambda t: t + t, "there is more after the end"),
        (lambda t: t.replace('{"netctl":1', '{"netctl":2'), "line 1: format 2 is not known, only 1"),
        (lambda t: t.replace('"netctl"', '"x"'), "line 1: not what netctl exports: 'netctl' is missing or not known"),
        (lambda t: "hello", "line 1: not what netctl exports: "),
        (lambda t: "[]", "line 1: not what netctl exports: "),
        (lambda t: _edit(t, "network", colour="red"), "not what netctl exports: "),
        (lambda t: _edit(t, "network", subnet="x"), "not what netctl exports: "),
        (lambda t: _edit(t, "network", tenant="none"), "needs tenant none, which is not there"),
        (lambda t: _edit(t, "endpoint", network="none"), "web1 needs network default:none, which is not there"),
        (lambda t: _edit(t, "service", vips=["100.1.1.254"]), "both have address 100.1.1.254 of default:srv"),
        (lambda t: _edit(t, "tenant", number=0), "has tenant number 0, out of 1 to 32767"),
        (lambda t: _edit(t, "network", number=2), "both have network number 2"),
    ],
)
def test_what_can_not_be_is_refused(
    run: Run, full: Door, tmp_path: Path, spoil: Callable[[str], str], line: str
) -> None:
    """A file that was cut off or edited would become a model that can't be, or half of one."""
    text = spoil(exported(run, tmp_path / "full.db"))
    place = tmp_path / "new.db"
    status, out, err = run("import", "--store", str(place), given=text)
    assert (status, out) == (3, "")
    assert line in err
    assert err.count("\n") == 1
    assert not place.exists()


@pytest.mark.parametrize("place", ["/no/such/netctl.db", "etcd://127.0.0.1:1/x", "etcd://h:p"])
def test_no_store(run: Run, place: str) -> None:
    """An export of a mistyped place would make an empty store there."""
    status, out, err = run("export", "--store", place)
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert err.startswith(f"store {place}")


def test_an_empty_prefix_is_no_store(run: Run, etcd_url: str) -> None:
    """The same, in an etcd."""
    assert run("export", "--store", etcd_url) == (3, "", f"store {etcd_url} can't be opened: there is none\n")
    assert run("export", "--store", etcd_url)[0] == 3
