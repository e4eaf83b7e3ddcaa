"""``ryu-manager`` as a process: how it starts, how it refuses to, how it ends."""

from __future__ import annotations

import http.client
import signal
import socket
from pathlib import Path

import pytest

from netctl.cli import main
from ryu_apps import framework
from tests.unit.manager_process import APP, app_file, connect, ports, running

RAISES_IN_HANDLER = APP + "        raise ValueError('from a handler')\n"
RAISES_IN_THREAD = """
from ryu_apps import framework


def work():
    framework.hub.sleep(0.05)
    raise ValueError('from a thread')


class Told(framework.App):
    def start(self):
        super().start()
        self.spawn(work)
"""
HANGS_AT_STOP = """
from ryu_apps import framework, manager

manager.STOP_SECONDS = 1


class Told(framework.App):
    def stop(self):
        framework.hub.Event().wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("observe", [[], ["--observe-links", f"{framework.NAME}.topology.switches"]])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals, observe: list[str]) -> None:
    """A stop by the supervisor, or by Ctrl-C, would hang or count as a failure."""
    options, port, _ = ports()
    with running(*options, *observe, app_file(tmp_path)) as manager:
        manager.wait_for("running ")
        with connect(port):
            manager.wait_for("state main")
            manager.signal(number)
            assert manager.ended() == 0
        assert f"stopping on {number.name}" in "\n".join(manager.lines)
        assert "Traceback" not in "\n".join(manager.lines)


def test_a_stop_that_hangs_is_cut_short(tmp_path: Path) -> None:
    """The supervisor would have to kill it, and call it failed."""
    options, _, _ = ports()
    hangs = HANGS_AT_STOP.replace("import framework, manager", "import framework").replace(
        "manager.STOP", "import sys; sys.modules['__main__'].STOP"
    )
    with running(*options, app_file(tmp_path, hangs)) as manager:
        manager.wait_for("running ")
        manager.signal(signal.SIGTERM)
        assert manager.ended() == 0
        assert manager.lines[-1] == "ryu-manager: the stop took too long and was cut short"


@pytest.mark.parametrize("taken", ["OpenFlow", "REST"])
def test_a_taken_port_is_refused(tmp_path: Path, taken: str) -> None:
    """A second controller would start without an error and take half of the switches' connections."""
    options, ofp, rest = ports()
    port = ofp if taken == "OpenFlow" else rest
    option = "ofp-tcp-listen-port" if taken == "OpenFlow" else "rest-port"
    with socket.socket() as other:
        # as the framework does: shared with whoever shares
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with running(*options, app_file(tmp_path)) as manager:
            assert manager.ended() == 1
    assert manager.lines == [
        f"ryu-manager: can't listen for {taken} on 127.0.0.1:{port}: Address already in use; "
        f"stop what listens there, or choose another port with --{option}"
    ]


def test_a_second_controller_is_refused_and_a_restart_is_not(tmp_path: Path) -> None:
    """Two controllers would undo each other; or none could start while old connections linger."""
    options, port, _ = ports()
    app = app_file(tmp_path)
    with running(*options, app) as first:
        first.wait_for("running ")
        with running(*options, app) as second:
            assert second.ended() == 1
        assert len(second.lines) == 1
        with connect(port):
            first.wait_for("state main")
            first.signal(signal.SIGTERM)
            assert first.ended() == 0
            with running(*options, app) as third:
                third.wait_for("running ")


@pytest.mark.parametrize(
    ("app", "why"), [(RAISES_IN_HANDLER, "from a handler"), (RAISES_IN_THREAD, "from a thread")]
)
def test_an_unexpected_exception_stops_it_loudly(tmp_path: Path, app: str, why: str) -> None:
    """A controller half dead would go on, and no supervisor start it again."""
    options, port, _ = ports()
    with running(*options, app_file(tmp_path, app)) as manager:
        if app is RAISES_IN_HANDLER:
            manager.wait_for("running ")
            connect(port).close()
        assert manager.ended() == 1
        text = "\n".join(manager.lines)
        assert f"stopping: unexpected ValueError: {why}" in text
        assert "Traceback" in text


def test_it_listens_on_loopback_only_and_not_on_the_old_port(tmp_path: Path) -> None:
    """Anybody on the network could take the switches over."""
    options, port, _ = ports()
    with running(*options, app_file(tmp_path)) as manager:
        manager.wait_for("running ")
        connect(port).close()
        manager.wait_for("state dead")
        listening = {
            (line.split()[1][:8], int(line.split()[1][9:], 16))
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if line.split()[3] == "0A"
        }
    assert [address for address, at in listening if at == port] == ["0100007F"]


def test_a_configuration_file(tmp_path: Path) -> None:
    """The controller would not listen where its administrator wrote."""
    _, ofp, rest = ports()
    conf = tmp_path / "netctl.conf"
    conf.write_text(
        f"[DEFAULT]\nofp-tcp-listen-port = {ofp}\nrest-port = {rest}\nlog-level = debug\n".replace("-", "_")
    )
    with running("--config-file", str(conf), app_file(tmp_path)) as manager:
        manager.wait_for("running ")
        connect(ofp).close()
        manager.wait_for("state main")


@pytest.mark.parametrize(
    ("args", "status", "line"),
    [
        (["--config-file", "/no/such/file"], 2, "ryu-manager: no such file: /no/such/file"),
        (["no.such"], 1, "ryu-manager: no application no.such: neither a module nor a file"),
        (["./no-such.py"], 1, "ryu-manager: no application ./no-such.py: neither a module nor a file"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(args: list[str], status: int, line: str) -> None:
    """The administrator would have to read a traceback."""
    options, _, _ = ports()
    with running(*options, "--log-level=error", *args) as manager:
        assert manager.ended() == status
    assert manager.lines == [line]


@pytest.mark.parametrize(
    ("store", "line"),
    [
        ("etcd://127.0.0.1:1/x", "store etcd://127.0.0.1:1/x can't be reached: Connection refused"),
        ("etcd://h:p/x", "store etcd://h:p/x: h:p is not HOST:PORT; "),
        ("/proc/none/netctl.db", "store /proc/none/netctl.db can't be opened: "),
    ],
)
def test_a_store_that_can_not_be_used(store: str, line: str) -> None:
    """The administrator would have to read a traceback; or a controller run that knows nothing."""
    options, ofp, rest = ports()
    with running(*options, "--log-level=error", "--store", store) as manager:
        assert manager.ended() == 1
    assert len(manager.lines) == 1
    assert manager.lines[0].startswith(f"ryu-manager: {line}")
    for port in (ofp, rest):
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("rest-url", "ctl-1:9999", "'ctl-1:9999' is not a URL: right is http://HOST:PORT or https://HOST:PORT"),
        ("rest-url", "http://[::1", "'http://[::1' is not a URL: right is http://HOST:PORT or https://HOST:PORT"),
        ("rest-url", "http://h:99999", "'http://h:99999' is not a URL: right is "),
        ("rest-name", "ctl-1:9999", "'ctl-1:9999' is not a host's name: right is a name without port"),
        ("rest-name", "", "'' is not a host's name: right is "),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_wrong_name_of_ours_is_refused(tmp_path: Path, option: str, value: str, line: str, in_file: bool) -> None:
    """The controller would end with a traceback, or refuse all who call it by that name without saying so."""
    options, _, _ = ports()
    conf = tmp_path / "netctl.conf"
    conf.write_text(f"[DEFAULT]\n{option.replace('-', '_')} = {value}\n" if in_file else "")
    given = [] if in_file else [f"--{option}={value}"]
    store = f"--store={tmp_path / 'netctl.db'}"
    with running("--config-file", str(conf), *options, store, *given) as manager:
        assert manager.ended() == 2
    assert len(manager.lines) == 1
    assert manager.lines[0].startswith(f"ryu-manager: {option}: {line}")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_rest_api_that_anybody_can_use(tmp_path: Path, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An administrator would not notice that whoever reaches the machine can delete networks."""
    options, _, rest = ports()
    with running(*options, "--rest-host", host, "--store", str(tmp_path / "netctl.db")) as manager:
        manager.wait_for("running ")
        warnings = [line for line in manager.lines if "WARNING" in line]
        assert main(["--netmaster", f"http://127.0.0.1:{rest}", "controller", "ls"]) == 0
    out, err = capsys.readouterr()
    assert f"http://{host}:{rest}" in out
    if host == "127.0.0.1":
        assert (warnings, err) == ([], "")
        return
    (line,) = warnings
    assert f"the REST API at http://{host}:{rest} can be used by whoever reaches it: " in line
    assert err == f"Warning: no authentication, whoever reaches it can use it: http://{host}:{rest}\n"


def test_names_of_the_rest_api(tmp_path: Path) -> None:
    """A proxy before the API, or a name in the hosts file, would be refused for good."""
    options, _, rest = ports()
    names = ["--rest-name", "router.example", "--rest-name=other", "--rest-url", "http://third:80"]
    with running(*options, *names, "--store", str(tmp_path / "netctl.db")) as manager:
        manager.wait_for("running ")
        for host, status in [("router.example", 200), ("OTHER:1", 200), ("third", 200), ("fourth", 403)]:
            connection = http.client.HTTPConnection("127.0.0.1", rest, timeout=20)
            connection.request("GET", "/version", headers={"Host": host})
            assert connection.getresponse().status == status, host
            connection.close()


def test_a_wrong_value_in_the_file_is_refused(tmp_path: Path) -> None:
    """The controller would fail later, and less clearly."""
    conf = tmp_path / "netctl.conf"
    conf.write_text("[DEFAULT]\nrest_port = many\n")
    with running("--config-file", str(conf)) as manager:
        assert manager.ended() == 1
    assert len(manager.lines) == 1
    assert "rest_port" in manager.lines[0]


def test_help_and_version() -> None:
    """A user would not find the options."""
    with running("--version") as version:
        assert version.ended() == 0
    assert version.lines[0].startswith("ryu-manager ")
    with running("--help") as help_:
        assert help_.ended() == 0
    text = "\n".join(help_.lines)
    for wanted in ("--config-file", "--rest-port", "--ofp-tcp-listen-port", "--store", "--log-level"):
        assert wanted in text
