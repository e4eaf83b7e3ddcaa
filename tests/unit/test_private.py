"""Files of our programs that nobody else may read: they tell of the whole network."""

from __future__ import annotations

from pathlib import Path

import pytest

from netctl.agent.memory import FILE, Memory
from netctl.agent.state import State
from topology import private


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_that_is_written(tmp_path: Path) -> None:
    """Other users of the machine would read it, or what a killed program left half written."""
    path = tmp_path / "made" / "file.json"
    private.make_directory(path.parent)
    left = path.with_suffix(".new")
    left.write_text("left behind, and longer than what is written")
    left.chmod(0o666)
    private.write(path, "short")
    assert (path.read_text(), mode(path), mode(path.parent)) == ("short", 0o600, 0o700)
    assert not left.exists()


def test_a_link_in_the_place_of_the_temporary_file(tmp_path: Path) -> None:
    """Whoever can write there would have another file written over."""
    (tmp_path / "precious").write_text("x")
    (tmp_path / "file.new").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        private.write(tmp_path / "file", "y")
    assert (tmp_path / "precious").read_text() == "x"


def test_what_the_agent_remembers(tmp_path: Path) -> None:
    """After an upgrade, the networks of a host would stay open to all its users until one of them changes."""
    (tmp_path / FILE).write_text("[]")
    (tmp_path / FILE).chmod(0o644)
    memory = Memory(tmp_path, State("h"))
    memory.load()
    assert mode(tmp_path / FILE) == 0o600
    memory.save()
    assert mode(tmp_path / FILE) == 0o600
