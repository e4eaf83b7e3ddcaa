"""``netctl``: the command line. Its exit status says whose turn it is: see `Exit`."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from io import TextIOWrapper

import click

from netctl import __version__
from netctl.client import NoConnection, Refused
from netctl.commands.base import Group, Target
from netctl.commands.controller import controller
from netctl.commands.endpoint import endpoint
from netctl.commands.host import host
from netctl.commands.network import network
from netctl.commands.service import service
from netctl.commands.stats import stats
from netctl.commands.store import store
from netctl.commands.switch import switch
from netctl.commands.tenant import tenant
from netctl.commands.trace import trace
from netctl.commands.version import version
from topology.text import clean


class Exit(IntEnum):
    """Contiv's exit statuses, which scripts ask for; 130 is the shells' for Ctrl-C."""

    OK = 0
    USAGE = 1
    NO_CONNECTION = 2
    REFUSED = 3
    LOCAL_IO = 4
    INTERRUPTED = 130


@click.group(
    cls=Group,
    top=True,
    aliases={"net": "network", "ep": "endpoint"},
    epilog="A flag may stand before or after a name, with one dash or two. "
    "Exit status: 0 done, 1 usage, 2 no connection, 3 refused, 4 output failed.",
)
@click.version_option(
    __version__,
    "--version",
    "-v",
    prog_name="netctl",
    message="%(prog)s %(version)s",
    help="Print the version.",
)
@click.pass_context
def root(ctx: click.Context) -> None:
    """Networks, tenants and load-balanced services for containers, on Open vSwitch."""
    ctx.ensure_object(Target)


service.add_command(stats)
for _command in (network, service, tenant, endpoint, host, switch, controller, trace, store, version):
    root.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        if sys.stdout is None:  # closed by whoever started us: what was asked would be done, and nobody told
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        status = _run(args)
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:  # a reader that has gone away wants to hear no more, of nothing
            _complain(f"netctl: can't write to standard output: {error.strerror or error}")
        _abandon_output()
        return Exit.LOCAL_IO
    return status


def _run(args: list[str]) -> int:
    try:
        for arg in args:
            if not arg.isascii() and _not_text(arg):
                raise click.UsageError(f"{arg!r} is not UTF-8 text")
        with root.make_context("netctl", args) as ctx:
            root.invoke(ctx)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "netctl"
        _complain(f"{command}: {error.format_message().rstrip('.')} (see {command} --help)")
        return Exit.USAGE
    except NoConnection as error:
        _complain(f"netctl: {error}; set the controller's URL with --netmaster or NETMASTER")
        return Exit.NO_CONNECTION
    except Refused as error:
        _complain(error.line)
        return Exit.REFUSED
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    return Exit.OK


def _not_text(arg: str) -> bool:
    try:
        arg.encode()
    except UnicodeEncodeError:
        return True
    return False


def _complain(line: str) -> None:
    """One line on standard error; where that is closed too, the exit status has to do."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(clean(line) + "\n")
            sys.stderr.flush()


def _abandon_output() -> None:
    """Keep the interpreter from failing, with a traceback, to write the rest of the buffer on its way out."""
    if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.__stdout__.fileno())
        os.close(nothing)


if __name__ == "__main__":
    sys.exit(main())
