"""Files that only their owner reads: what is in them tells of the whole network."""

from __future__ import annotations

import os
from pathlib import Path

FILE_MODE, DIRECTORY_MODE = 0o600, 0o700
UMASK = 0o077
"""Of our programs: what they, or libraries of theirs, make is for nobody else, even for a moment."""


def make_directory(path: Path) -> None:
    """With the ones above it; one that is there stays as it is."""
    path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)


def write(path: Path, text: str) -> None:
    """The whole file or what it was; the temporary one that a killed program left behind is used again."""
    temporary = path.with_suffix(".new")
    made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(made, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), FILE_MODE)
        file.write(text)
    os.replace(temporary, path)


def close_to_others(path: Path) -> None:
    """A file that an earlier version may have left open to others; none there is none."""
    try:
        os.chmod(path, FILE_MODE)
    except FileNotFoundError:
        return
