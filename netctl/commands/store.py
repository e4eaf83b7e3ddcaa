"""``netctl store``: the model as a file, straight out of the store or into it.

Not by way of a controller: one that runs on an empty store would tell the agents that there are no networks, and they
would remove those of the hosts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netctl.client import Refused
from netctl.commands.base import flag, noun

if TYPE_CHECKING:
    from topology.store import Store

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_STORE = "/var/lib/netctl/netctl.db"

store = noun("store", "What the controllers keep: moved from one store to another.")


def store_flags(command: F) -> F:
    """Where the store is, as the controller's options say it."""
    place = flag(
        "--store", metavar="PLACE", text="An SQLite file, or etcd://HOST:PORT,HOST:PORT/PREFIX; etcds:// with TLS.",
        absent=f"default: {DEFAULT_STORE}", default=DEFAULT_STORE,
    )  # fmt: skip
    ca = flag("--store-ca-file", "ca", metavar="FILE", text="Who may vouch for etcd.", absent="default: public ones")
    cert = flag("--store-cert-file", "cert", metavar="FILE", text="Our certificate for etcd.", absent="default: none")
    key = flag("--store-key-file", "key", metavar="FILE", text="The certificate's key.", absent="default: none")
    return place(ca(cert(key(command))))


@store.command("export")
@store_flags
def export_(store: str, ca: str, cert: str, key: str) -> None:
    """Print all that a store holds, as lines of JSON. Controllers may run meanwhile."""
    from topology.transfer import export_lines

    with opened(store, ca, cert, key, reading=True) as place:
        lines = list(export_lines(place))
    for line in lines:
        sys.stdout.write(line + "\n")


@store.command("import")
@store_flags
def import_(store: str, ca: str, cert: str, key: str) -> None:
    """Read from standard input what `export` printed, into a store that is new: all of it, or nothing.

    Do it before a controller runs on that store: agents that meet an empty one remove their networks.
    """
    from topology.transfer import check, import_lines, parse

    lines = sys.stdin.read().splitlines()
    with refusing():
        check(parse(lines)[0])  # before anything is made
    with opened(store, ca, cert, key, reading=False) as place:
        count = import_lines(place, lines)
    click.echo(f"Imported {count} {'object' if count == 1 else 'objects'} into {store}", err=True)


@contextmanager
def opened(place: str, ca: str, cert: str, key: str, *, reading: bool) -> Iterator[Store]:
    """The store there; what is wrong with it is a refusal."""
    from topology.stores import open_store

    with refusing(), closing(open_store(place, ca, cert, key, reading=reading)) as store:
        yield store


@contextmanager
def refusing() -> Iterator[None]:
    """A refusal of the model's is the command line's."""
    from topology.errors import NetctlError

    try:
        yield
    except NetctlError as error:
        raise Refused(error.status, str(error)) from error
