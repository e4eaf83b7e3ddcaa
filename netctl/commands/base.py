"""What all commands share: how they read their arguments, their common flags, and where the controller is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from netctl import client as api
from netctl.flags import rewritten
from netctl.output import say, say_json, say_table, without_empty

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TENANT = "default"
ALIASES = {"list": "ls", "delete": "rm"}
STYLE: dict[str, Any] = {
    "context_settings": {"help_option_names": ["--help", "-h"], "max_content_width": 100},
    "options_metavar": "[FLAGS]",
}
WIDEST_NAMES = 30  # of a flag, in help
GLOBAL_HINT = "Also --netmaster URL and --insecure: see netctl --help."


@dataclass
class Target:
    """Where the controller is: what the global flags say."""

    url: str = api.DEFAULT_URL
    insecure: bool = False

    def connect(self) -> api.Client:
        """A client of the controller; a URL that can't be one is the user's mistake."""
        try:
            return api.Client(self.url, insecure=self.insecure)
        except ValueError as error:
            raise click.UsageError(f"{error}; set it with --netmaster or NETMASTER") from error


pass_target = click.make_pass_decorator(Target)


def _set_netmaster(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value:
        ctx.ensure_object(Target).url = value


def _set_insecure(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Target).insecure = True


def global_flags(*, shown: bool) -> list[click.Parameter]:
    """The flags that work at any place of the line. Help shows them once, at the top."""
    return [
        click.Option(
            ["--netmaster"],
            metavar="URL",
            envvar="NETMASTER" if shown else None,
            hidden=not shown,
            expose_value=False,
            callback=_set_netmaster,
            help="The controller's URL, or several with commas; also the environment variable NETMASTER."
            f"  [default: {api.DEFAULT_URL}]",
        ),
        click.Option(
            ["--insecure"],
            is_flag=True,
            hidden=not shown,
            expose_value=False,
            callback=_set_insecure,
            help="Don't verify the certificate of an https controller.  [default: verify]",
        ),
    ]


@contextmanager
def _named(ctx: click.Context) -> Iterator[None]:
    """A usage error knows the command whose usage it is about."""
    try:
        yield
    except click.UsageError as error:
        error.ctx = error.ctx or ctx
        raise


class Flag(click.Option):
    """A flag that help may show under a heading of its own."""

    def __init__(self, *args: Any, group: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class _Flags(click.Command):
    """Reads flags in any of their forms, and calls them flags."""

    flags_anywhere = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _named(ctx):
            return super().parse_args(
                ctx, rewritten(args, self.get_params(ctx), anywhere=self.flags_anywhere)
            )

    def invoke(self, ctx: click.Context) -> Any:
        with _named(ctx):
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Flags": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record is not None:
                group = param.group if isinstance(param, Flag) and param.group else "Flags"
                groups.setdefault(group, []).append(record)
        # one width for all, so that they read as one table with headings; click puts longer ones on a line apart
        width = min(max(len(names) for records in groups.values() for names, _ in records), WIDEST_NAMES)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl([(names.ljust(width), text) for names, text in records])


class Command(_Flags):
    """A verb."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**STYLE, "epilog": GLOBAL_HINT, **kwargs})
        self.params.extend(global_flags(shown=False))


class Group(_Flags, click.Group):
    """A noun, or all of them: also answers to its aliases and to ``help``; alone it shows its help."""

    command_class = Command
    flags_anywhere = False  # what follows the verb is the verb's

    def __init__(
        self, *args: Any, aliases: Mapping[str, str] = ALIASES, top: bool = False, **kwargs: Any
    ) -> None:
        alone = {
            "no_args_is_help": False,
            "invoke_without_command": True,
            "subcommand_metavar": "COMMAND ...",
        }
        kwargs = {**STYLE, **alone, "epilog": GLOBAL_HINT, **kwargs}
        super().__init__(*args, **kwargs)
        self.aliases = dict(aliases)
        self.params.extend(global_flags(shown=top))

    def invoke(self, ctx: click.Context) -> Any:
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            click.echo(ctx.get_help())
        return result

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] == "help":
            args = [*args[1:], "--help"]
            if len(args) == 1:
                click.echo(ctx.get_help())
                ctx.exit()
        command = self.get_command(ctx, args[0])
        if command is None:
            near = difflib.get_close_matches(args[0], [*self.commands, *self.aliases], n=1)
            hint = (
                f"; did you mean {self.aliases.get(near[0], near[0])}?"
                if near
                else f"; there are {', '.join(self.commands)}"
            )
            raise click.UsageError(f"unknown command {args[0]}{hint}", ctx)
        return command.name, command, args[1:]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        also: dict[str, list[str]] = {}
        for alias, name in self.aliases.items():
            also.setdefault(name, []).append(alias)
        rows = [
            (", ".join([name, *also.get(name, [])]), command.get_short_help_str(limit=80))
            for name, command in self.commands.items()  # in the order in which a user meets them
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def noun(name: str, help_text: str, **aliases: str) -> Group:
    """The commands of one kind of object; ``aliases``: more names of its verbs."""
    return Group(name, help=help_text, aliases={**ALIASES, **aliases})


def name_argument(what: str, metavar: str = "NAME") -> Callable[[F], F]:
    """The object's name; where it is missing, in Contiv's words: "Network name required"."""

    def required(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
        if not value:
            raise click.UsageError(f"{what} required")
        return value

    return click.argument("name", required=False, metavar=metavar, callback=required)


def flag(
    *names: str, metavar: str, text: str, absent: str, multiple: bool = False, **more: Any
) -> Callable[[F], F]:
    """A flag with a text as its value. ``absent``: what goes where it is not given, for its help."""
    default: Any = () if multiple else ""
    return click.option(
        *names,
        cls=Flag,
        metavar=metavar,
        help=f"{text}  [{absent}]",
        multiple=multiple,
        **{"default": default, **more},
    )


def number_flag(*names: str, metavar: str, text: str, absent: str, group: str = "") -> Callable[[F], F]:
    """A flag with a whole number as its value; None where it is not given. Its range is the controller's affair."""
    return flag(*names, metavar=metavar, text=text, absent=absent, type=int, default=None, group=group)


tenant_flag = flag(
    "--tenant",
    "-t",
    metavar="TENANT",
    text="Tenant that it belongs to.",
    absent=f"default: {DEFAULT_TENANT}",
    default=DEFAULT_TENANT,
)


def list_flags(command: F) -> F:
    """``--tenant --all --json --quiet``."""
    every = click.option(
        "--all", "-a", "every", is_flag=True, help="List all tenants'.  [default: one tenant's]"
    )
    return tenant_flag(every(form_flags(command)))


def form_flags(command: F) -> F:
    """``--json --quiet``."""
    as_json = click.option("--json", "-j", "as_json", is_flag=True, help="Print JSON.  [default: a table]")
    quiet = click.option("--quiet", "-q", is_flag=True, help="Print names, one a line.  [default: a table]")
    return as_json(quiet(command))


def of_tenant(
    client: api.Client, docs: Sequence[Mapping[str, Any]], tenant: str, every: bool
) -> list[Mapping[str, Any]]:
    """The documents of one tenant, or of all. Refused where there is no such tenant."""
    found = [doc for doc in docs if every or doc.get("tenantName") == tenant]
    if not found and not every:
        client.tenant(tenant)
    return found


@dataclass(frozen=True)
class Listing:
    """How a kind of object is listed: the fields that order and name it, and its table."""

    order: tuple[str, ...]
    columns: tuple[str, ...]
    row: Callable[[Mapping[str, Any]], tuple[object, ...]]

    def show(self, docs: list[Mapping[str, Any]], *, as_json: bool, quiet: bool) -> None:
        """Print the documents: names, JSON or a table."""
        docs = sorted(docs, key=lambda doc: tuple(str(doc.get(field, "")) for field in self.order))
        if quiet:
            for doc in docs:
                say(str(doc.get(self.order[-1], "")))
        elif as_json:
            say_json([without_empty(doc) for doc in docs])
        else:
            say_table(self.columns, (self.row(doc) for doc in docs))
