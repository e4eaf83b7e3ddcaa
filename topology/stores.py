"""Which store a name stands for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from topology.sqlite_store import SqliteStore
from topology.store import StoreUnusable

if TYPE_CHECKING:
    from topology.etcd_store import EtcdStore


def open_store(
    place: str, ca: str = "", cert: str = "", key: str = "", *, reading: bool = False
) -> SqliteStore | EtcdStore:
    """``etcd://HOST:PORT,HOST:PORT/PREFIX``, ``etcds://`` with TLS and files for it; or an SQLite file's path.

    One that is not there is made, unless it is for ``reading``.
    """
    if not place.startswith(("etcd:", "etcds:")):
        if reading and not os.path.exists(place):
            raise StoreUnusable(f"store {place} can't be opened: there is none")
        return SqliteStore(place, reading=reading)
    # only here: who has his model in a file needs none of the libraries for etcd
    from topology.etcd import Tls
    from topology.etcd_store import EtcdStore

    return EtcdStore(place, Tls(ca, cert, key), make=not reading)
