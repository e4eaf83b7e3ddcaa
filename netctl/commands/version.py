"""``netctl version``."""

from __future__ import annotations

import click

from netctl import __version__
from netctl.commands.base import Command, Target, pass_target
from netctl.output import say

FIELDS = ("Version", "GitCommit", "BuildTime")


@click.command(cls=Command)
@pass_target
def version(target: Target) -> None:
    """Show the versions of this program and of the controller."""
    say("Client Version:")
    say(f"Version: {__version__}")
    with target.connect() as client:
        server = client.version()
    say("")
    say("Server Version:")
    for field in FIELDS:
        if value := server.get(field):
            say(f"{field}: {value}")
