"""How flags may be typed, what help says, and which exit status a failure has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from netctl.cli import main, root
from tests.unit.fake_controller import FakeController

Run = Callable[..., tuple[int, str, str]]
CREATE = ("service", "create", "-s", "n", "-l", "a=b", "-p", "80:80:TCP")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeController]:
    with FakeController() as controller:
        controller.docs["networks"]["default:n"] = {"key": "default:n", "networkName": "n"}
        monkeypatch.setenv("NETMASTER", controller.url)
        yield controller


@pytest.fixture
def run(fake: FakeController, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command line: exit status, standard output, standard error."""

    def run(*args: str) -> tuple[int, str, str]:
        status = main(args)
        return (status, *capsys.readouterr())

    return run


def commands(command: click.Command = root, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command there is."""
    yield path
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))


@pytest.mark.parametrize(
    "form",
    [
        ("-ip", "10.1.1.9"),
        ("--ip", "10.1.1.9"),
        ("-ip=10.1.1.9",),
        ("--ip=10.1.1.9",),
        ("-preferred-ip", "10.1.1.9"),
        ("--preferred-ip", "10.1.1.9"),
        ("-preferred-ip=10.1.1.9",),
        ("--preferred-ip=10.1.1.9",),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_forms_of_a_flag(fake: FakeController, run: Run, form: tuple[str, ...], before: bool) -> None:
    """Otherwise what worked with Contiv, one dash or two, before or after the name, fails here."""
    args = (*form, "web") if before else ("web", *form)
    assert run(*CREATE, *args)[0] == 0
    assert fake.docs["serviceLBs"]["default:web"]["ipAddress"] == "10.1.1.9"


@pytest.mark.parametrize("form", [("-t", "blue"), ("-t=blue",), ("--t", "blue"), ("-tenant", "blue")])
def test_forms_of_a_short_flag(fake: FakeController, run: Run, form: tuple[str, ...]) -> None:
    """Otherwise `-t=blue` asks for a tenant called `=blue`."""
    fake.docs["networks"] = {"blue:m": {"tenantName": "blue", "networkName": "m"}}
    assert run("net", "ls", *form, "-q") == (0, "m\n", "")


def test_a_value_may_look_like_a_flag(fake: FakeController, run: Run) -> None:
    """Otherwise the value is taken for a flag, and the line names the wrong mistake."""
    status, _, err = run("service", "create", "web", "-s", "n", "-p", "-5")
    assert (status, err) == (3, "Invalid port mapping. Port format is - Port:TargetPort:Protocol\n")


def test_after_two_dashes_nothing_is_a_flag(run: Run) -> None:
    """Otherwise an object with a strange name can't be named."""
    assert run("tenant", "create", "--", "-x")[:2] == (0, "Creating tenant: -x\n")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_global_flags_anywhere(
    fake: FakeController, run: Run, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Otherwise a user has to remember where --netmaster goes."""
    monkeypatch.setenv("NETMASTER", "http://127.0.0.1:1")
    line = ["net", "ls"]
    line[place:place] = ["--netmaster", fake.url, "-insecure"]
    assert run(*line)[0] == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("net create", "netctl network create: Network name required (see netctl network create --help)"),
        ("service create", "Service name required"),
        ("service rm", "Service name required"),
        ("tenant inspect", "Tenant name required"),
        ("endpoint inspect", "Endpoint ID required"),
        ("host rm", "Host name required"),
        ("net create a", "Network subnet required"),
        ("net create a b -s 10.1.1.0/24", "Got unexpected extra argument (b)"),
        ("net ls extra", "Got unexpected extra argument (extra)"),
        ("net ls -tennant blue", "unknown flag -tennant; did you mean --tenant?"),
        ("net ls --frob=1", "unknown flag --frob"),
        ("net ls -ax", "unknown flag -ax"),
        ("net ls -t", "flag -t needs a value"),
        ("net ls --all=yes", "flag --all takes no value"),
        ("net create a -s 10.1.1.0/24 -p x", "'x' is not a valid integer"),
        ("service create s --session-affinity 1h", "'1h' is not a valid integer"),
        ("service create s --check-path /up", "--check-path needs --check tcp or --check http"),
        ("service create s --check-rise 2", "--check-rise needs --check tcp or --check http"),
        ("ep create e --label x", "--label takes KEY=VALUE, not 'x'"),
        ("ep create e --label =x", "--label takes KEY=VALUE, not '=x'"),
        ("ep create e --label a=1 --label a=2", "--label a is given twice"),
        ("frob", "netctl: unknown command frob; there are network, service,"),
        ("net lst", "unknown command lst; did you mean ls?"),
        ("--frob net ls", "netctl: unknown flag --frob"),
        ("--netmaster c:9999 net ls", "'c:9999' is not a controller's URL: http://HOST:PORT"),
    ],
)
def test_usage_errors(fake: FakeController, run: Run, line: str, says: str) -> None:
    """Otherwise a slip is not told, or changes something."""
    status, out, err = run(*line.split())
    assert (status, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1
    assert not fake.seen


def test_empty_name(run: Run) -> None:
    """Otherwise `netctl tenant rm "$UNSET"` is a request about all tenants."""
    status, _, err = run("tenant", "rm", "")
    assert (status, "Tenant name required" in err) == (1, True)


def test_a_name_that_is_no_text(run: Run) -> None:
    """Otherwise a broken byte from a script ends in a traceback."""
    status, _, err = run("tenant", "rm", "\udcff")
    assert (status, "is not UTF-8 text" in err) == (1, True)


def test_no_connection(run: Run) -> None:
    """Otherwise a user whose controller is down, or elsewhere, doesn't learn which one was tried."""
    assert run("--netmaster", "http://127.0.0.1:1", "net", "ls") == (
        2,
        "",
        "netctl: no connection to http://127.0.0.1:1: Connection refused; "
        "set the controller's URL with --netmaster or NETMASTER\n",
    )


NO_SLASH = "a name has no slash; what Docker lists as NAME/TENANT is NAME -t TENANT here"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "service create s -s n -l a=b -p 80:8080",
            "Invalid port mapping. Port format is - Port:TargetPort:Protocol",
        ),
        ("service create s -s none -p 80:80:TCP", "Network none not found"),
        ("net create x -s 10.1.1.0/24 -t red", "Tenant red not found"),
        ("net inspect none", "Network default:none not found"),
        ("tenant rm ..", "'..' can't be a name"),
        ("tenant create a/b", f"a/b: {NO_SLASH}"),
        ("net create web/blue -s 10.9.9.0/24", f"web/blue: {NO_SLASH}"),
        ("net rm gw/../nat", f"gw/../nat: {NO_SLASH}"),
        ("net create a:b -s 10.9.9.0/24", "a:b: a name has no colon; -t TENANT names the tenant"),
    ],
)
def test_refusals(fake: FakeController, run: Run, line: str, says: str) -> None:
    """Otherwise a refusal looks like success, or its reason is lost."""
    assert run(*line.split()) == (3, "", f"{says}\n")


def test_a_refusal_can_not_drive_the_terminal(fake: FakeController, run: Run) -> None:
    """Otherwise whoever chooses a name writes on the operator's screen."""
    assert "\x1b" not in run("tenant", "rm", "\x1b[2J")[2]


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(fake: FakeController, run: Run, path: tuple[str, ...], flag: str) -> None:
    """Otherwise a user has to read the source."""
    status, out, err = run(*path, flag)
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: {' '.join(('netctl', *path))} ")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert run("help", *path)[1] == out
    assert not fake.seen


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_flag_is_explained(path: tuple[str, ...]) -> None:
    """Otherwise a user doesn't learn what happens where a flag is left out."""
    command: click.Command = root
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command.help
    shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    for option in shown:
        assert option.help, option.name
        if option.name != "version":
            assert "[default: " in option.help or "[required]" in option.help, option.name


@pytest.mark.parametrize(
    "path", [p for p in commands() if len(p) < 2 and p not in (("version",), ("trace",))], ids=" ".join
)
def test_alone_a_noun_shows_its_commands(run: Run, path: tuple[str, ...]) -> None:
    """Otherwise a user who types `netctl net` gets nothing."""
    status, out, _ = run(*path)
    assert status == 0
    assert "Commands:" in out


def process(*args: str, url: str, stdout: int | None) -> subprocess.CompletedProcess[str]:
    """netctl as a process of its own. ``stdout`` None: closed."""
    program = [sys.executable, "-m", "netctl.cli", *args]
    if stdout is None:
        program = ["sh", "-c", 'exec "$@" >&-', "sh", *program]
    return subprocess.run(
        program,
        env={**os.environ, "NETMASTER": url},
        cwd=Path(__file__).parents[2],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("args", [("net", "ls"), ("--help",)])
def test_output_that_can_not_be_written(fake: FakeController, args: tuple[str, ...]) -> None:
    """Otherwise a script takes half a list for the whole."""
    with open("/dev/full", "wb") as full:
        done = process(*args, url=fake.url, stdout=full.fileno())
    line = "netctl: can't write to standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (4, line)


def test_reader_gone(fake: FakeController) -> None:
    """Otherwise `netctl net ls | head -1` ends in a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    done = process("net", "ls", url=fake.url, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (4, "")


def test_closed_output(fake: FakeController) -> None:
    """Otherwise something is done and nobody told."""
    done = process("tenant", "create", "blue", url=fake.url, stdout=None)
    assert (done.returncode, done.stderr) == (
        4,
        "netctl: can't write to standard output: Bad file descriptor\n",
    )
    assert not fake.seen


def test_help_needs_no_http_library() -> None:
    """Otherwise every --help takes two and a half times as long."""
    code = "import sys; from netctl.cli import main; main(['--help']); sys.exit('requests' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
