"""The file of a store in SQLite: ours alone for as long as we live, and noticed when it is not there any more."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from topology.private import FILE_MODE, close_to_others, make_directory
from topology.store import StoreUnavailable, StoreUnusable

Identity = tuple[int, int]  # device and inode


class StoreFile:
    """Held until `close`. The kernel lets go of it when we are killed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._log: Identity | None = None
        try:
            make_directory(Path(path).parent)
            # made by us, not by SQLite, so that nobody else can read it even for a moment
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, FILE_MODE)
        except OSError as error:
            raise StoreUnusable(f"store {path} can't be opened: {error.strerror}") from error
        try:
            self._take()
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise StoreUnusable(f"store {self.path} can't be opened: it is not a file")
        try:
            # of another kind than SQLite's own locks, and of the file itself: whatever path leads to it
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreUnusable(
                f"store {self.path} is in use by another controller (or netctl store import): "
                "an SQLite file is for one; several share an etcd"
            ) from error
        except OSError as error:
            raise StoreUnusable(f"store {self.path} can't be locked: {error.strerror}") from error

    def close_to_others(self) -> None:
        """Nobody else reads it, nor what SQLite keeps beside it. For when it is known to be ours."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            close_to_others(Path(self.path + suffix))

    def check(self) -> None:
        """StoreUnavailable: what we write would be lost, for the file, or its log, is not there any more."""
        if _identity(self.path) != self._own:
            raise StoreUnavailable(
                f"store {self.path} was deleted or replaced while in use: no change is stored until that very file is "
                "back, or the controller is started again on what is there"
            )
        log = _identity(f"{self.path}-wal")
        if self._log is not None and log != self._log:
            raise StoreUnavailable(
                f"store {self.path}-wal was deleted or replaced while in use: no change is stored until the controller "
                "is started again"
            )
        self._log = log

    @property
    def _own(self) -> Identity:
        found = os.fstat(self._file)
        return found.st_dev, found.st_ino

    def close(self) -> None:
        """Others may have it. After SQLite's own end: closing any descriptor of a file lets go of SQLite's locks."""
        os.close(self._file)


def _identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise StoreUnavailable(f"store {path} can't be used now: {error.strerror}") from error
    return found.st_dev, found.st_ino
