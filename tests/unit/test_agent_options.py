"""The agent's command line: where a setting comes from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netctl.agent import main
from netctl.agent.options import Options
from netctl.agent.zones import Timeouts


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The options that an agent was started with; none is."""
    seen: list[Options] = []
    monkeypatch.setattr(main, "run", lambda options: seen.append(options) or 0)
    return seen


def agent(*arguments: str, **environment: str) -> Result:
    clean: dict[str, str | None] = dict.fromkeys(("DOCKER_HOST", "NETMASTER", "NETCTL_NETMASTER", "NETCTL_HOST"))
    return CliRunner().invoke(main.command, arguments, env={**clean, **environment}, prog_name="netctl-agent")


def test_the_defaults(started: list[Options]) -> None:
    """Else a host that follows the README needs settings that it does not mention."""
    assert agent().exit_code == 0
    (options,) = started
    assert options.netmaster == "http://127.0.0.1:9999"
    assert options.bridge == "br-netctl"
    assert options.controller == ("tcp:127.0.0.1:6653",)
    assert options.socket == Path("/run/docker/plugins/netctl.sock")
    assert options.driver == "netctl"
    assert options.datapath_type == "auto"
    assert options.timeouts == Timeouts(established=86400, half_closed=10800, udp=120)
    assert options.host


def test_a_flag_before_the_environment_before_the_file(started: list[Options], tmp_path: Path) -> None:
    """Else a setting is silently another one than the one just typed."""
    file = tmp_path / "agent.conf"
    file.write_text("[agent]\nhost = file\nbridge = br-file\ntunnel-address = 192.0.2.1\n# netmaster = nothing\n")
    done = agent("--config", str(file), "--host=flag", NETCTL_HOST="environment", NETCTL_BRIDGE="br-env")
    assert done.exit_code == 0, done.output
    (options,) = started
    assert (options.host, options.bridge, options.tunnel_address) == ("flag", "br-env", "192.0.2.1")


def test_conntrack_timeouts(started: list[Options], tmp_path: Path) -> None:
    """Else connections are forgotten after other times than those that were asked for."""
    file = tmp_path / "agent.conf"
    file.write_text("[agent]\ntcp_established_timeout = 600\nudp_timeout = 30\n")
    done = agent("--config", str(file), "--tcp-half-closed-timeout=3600", NETCTL_UDP_TIMEOUT="45")
    assert done.exit_code == 0, done.output
    assert started[0].timeouts == Timeouts(established=600, half_closed=3600, udp=45)
    for wrong in ("--udp-timeout=9", "--tcp-established-timeout=2592001", "--tcp-half-closed-timeout=1h"):
        refused = agent(wrong)
        assert refused.exit_code == 2
        assert wrong.partition("=")[0] in refused.output
    assert "9 is not in the range 10<=x<=2592000" in agent("--udp-timeout=9").output


def test_the_environment_that_others_use_too(started: list[Options]) -> None:
    """Else the agent talks to another controller or Docker than `netctl` and `docker` in the same shell."""
    assert agent(NETMASTER="http://c:1", DOCKER_HOST="tcp://d:2").exit_code == 0
    assert (started[0].netmaster, started[0].docker) == ("http://c:1", "tcp://d:2")


def test_several_controllers(started: list[Options]) -> None:
    """Else the switch can't be given a second controller to fall back on."""
    agent("--controller", "tcp:a:6653, tcp:b:6653")
    assert started[0].controller == ("tcp:a:6653", "tcp:b:6653")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[agent]\nhots = x\n", "unknown option hots; known: "),
        ("[agents]\nhost = x\n", "unknown section [agents]; the agent's is [agent]"),
        ("host = x\n", "no section headers"),
        ("[agent]\nhost\n", "parsing errors"),
        ("[agent]\n\xff", ""),
    ],
)
def test_a_file_that_is_wrong(started: list[Options], tmp_path: Path, text: str, line: str) -> None:
    """Else a typing error in the file is a setting that does not count."""
    file = tmp_path / "agent.conf"
    file.write_bytes(text.encode("latin-1"))
    done = agent("--config", str(file))
    assert done.exit_code == 2
    assert f"Error: {file}: " in done.output
    assert line in done.output
    assert not started


def test_a_file_that_is_not_there(started: list[Options], tmp_path: Path) -> None:
    """Else a wrong --config starts an agent with defaults."""
    assert "no such file" in agent("--config", str(tmp_path / "x")).output
    assert not started


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--netmaster=nonsense", "--netmaster: 'nonsense' is not a controller's URL"),
        ("--host=", "--host: a host needs a name"),
        ("--bridge=much-too-long-a-name", "--bridge 'much-too-long-a-name': an interface's name"),
        ("--bridge=a/b", "--bridge 'a/b'"),
        ("--controller=127.0.0.1", "--controller '127.0.0.1': tcp:ADDRESS:PORT"),
        ("--controller=,", "--controller: at least one is needed"),
        ("--socket=/run/netctl", "--socket /run/netctl: Docker finds a plugin by a name that ends in .sock"),
        ("--tunnel-address=fd00::1", "--tunnel-address 'fd00::1': not an IPv4 address"),
    ],
)
def test_a_value_that_cannot_be(started: list[Options], argument: str, line: str) -> None:
    """Else the mistake shows minutes later, as something else."""
    done = agent(argument)
    assert done.exit_code == 1
    assert done.output.startswith(f"netctl-agent: {line}")
    assert done.output.count("\n") == 1
    assert not started


def test_help_names_every_option(started: list[Options]) -> None:
    """Else a user has to read the source."""
    text = agent("--help").output
    for parameter in main.command.params:
        assert any(option in text for option in parameter.opts)
    assert not started
