"""``ryu-manager``: reads options, loads applications, runs them until a signal or a fault ends it.

Exit status: 0 stopped by SIGTERM or SIGINT; 1 could not start, or an unexpected exception (see the log);
2 wrong usage.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Any

from oslo_config import cfg

from ryu_apps import config, framework
from topology import private
from topology.errors import NetctlError
from topology.heartbeat import PERIOD, Heartbeat
from topology.text import OneLine

STOP_SECONDS = 5
"""After this long a stop that hangs is cut short."""

DEFAULT_APP = "ryu_apps.controller"

_LOG = logging.getLogger(__name__)


class _Refused(Exception):
    """Why we can't start, in one line."""

    def __init__(self, line: str, status: int = 1) -> None:
        super().__init__(line)
        self.status = status


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    framework.patch()
    os.umask(private.UMASK)
    try:
        applications = _configure(argv)
        conf = framework.CONF
        refuse_taken(conf.ofp_listen_host, conf.ofp_tcp_listen_port, "OpenFlow", "ofp-tcp-listen-port")
        refuse_taken(conf.rest_host, conf.rest_port, "REST", "rest-port")
        return _run(applications)
    except _Refused as refusal:
        print(f"ryu-manager: {refusal}", file=sys.stderr)
        return refusal.status


def _configure(argv: Sequence[str] | None) -> list[str]:
    conf = framework.CONF
    log: Any = framework.load("log")
    framework.load("controller.controller")
    framework.load("topology.switches")
    config.register(conf)
    conf.register_cli_opt(
        cfg.MultiStrOpt(
            "app",
            positional=True,
            default=[],
            help=f"Applications: modules or files (default {DEFAULT_APP}).",
        )
    )
    try:
        conf(
            args=list(sys.argv[1:] if argv is None else argv),
            prog="ryu-manager",
            project="netctl",
            version=f"ryu-manager {_version('netctl')} on {framework.NAME} {_version(framework.NAME)}",
            default_config_files=[],
            default_config_dirs=[],
        )
        # a wrong value in a file shows only when it is read: ask for each now
        for option in config.OPTIONS:
            conf[option.dest]
        config.check(conf)
    except cfg.ConfigFilesNotFoundError as exc:
        raise _Refused(f"no such file: {', '.join(exc.config_files)}", 2) from exc
    except ValueError as exc:
        raise _Refused(str(exc).splitlines()[0], 2) from exc
    except cfg.Error as exc:
        raise _Refused(" ".join(str(exc).split()), 2) from exc
    log.init_log()
    root = logging.getLogger()
    for handler in root.handlers:
        handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if not conf.verbose and conf.default_log_level is None:
        root.setLevel(conf.log_level.upper())
    return list(conf.app) or [DEFAULT_APP]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed: run from its sources)"


def refuse_taken(host: str, port: int, what: str, option: str) -> None:
    """Refuse a listening address that somebody else has.

    The listeners share their port with whoever asks (SO_REUSEPORT): a second controller would start without
    an error and take half of the connections. A socket that does not share finds out.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, proto, _, address = found[0]
        with socket.socket(family, kind, proto) as probe:
            # over connections of a predecessor that still linger, but not over a listener
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as exc:
        raise _Refused(
            f"can't listen for {what} on {host}:{port}: {exc.strerror}; "
            f"stop what listens there, or choose another port with --{option}"
        ) from exc


def _run(applications: list[str]) -> int:
    # a handler alone would wait for the hub's next timer: its wake-up byte makes a socket readable
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, _noted)

    manager = framework.app_manager.AppManager.get_instance()
    for name in applications:
        _load(manager, name)
    try:
        services = manager.instantiate_apps(**manager.create_contexts())
    except NetctlError as refusal:  # a store that can't be used, say
        raise _Refused(str(refusal)) from refusal
    watchers = [framework.spawn(_watch, service) for service in services]
    # the listener's thread takes its port now
    framework.hub.sleep(0)
    _LOG.info("running %s on %s", ", ".join(applications), framework.NAME)
    heartbeat = Heartbeat()
    heartbeat.ready()
    watchers.append(framework.spawn(_beat, heartbeat))

    framework.eventlet.hubs.trampoline(reader.fileno(), read=True)  # the other greenthreads run meanwhile
    number = reader.recv(1)[0]
    _LOG.info("stopping on %s", signal.Signals(number).name)
    heartbeat.stopping()
    # a thread of the system's: it runs even if no greenthread yields any more, or all wait in the kernel
    framework.eventlet.patcher.original("_thread").start_new_thread(_cut_short, ())
    for watcher in watchers:
        framework.hub.kill(watcher)
    manager.close()
    logging.shutdown()
    sys.stderr.flush()
    # connections to switches still have greenthreads; let none of them speak up while the interpreter goes
    os._exit(0)


def _beat(heartbeat: Heartbeat) -> None:
    """For as long as greenthreads have their turn."""
    while True:
        framework.hub.sleep(PERIOD)
        heartbeat.beat()


def _load(manager: Any, application: str) -> None:
    refusal = _Refused(f"no application {application}: neither a module nor a file")
    if os.sep in application and not os.path.exists(application):
        raise refusal
    try:
        manager.load_apps([application])
    except ModuleNotFoundError as exc:
        # a module that the application itself misses is a fault, to be seen whole
        if exc.name is None or not f"{application}.".startswith(f"{exc.name}."):
            raise
        raise refusal from exc


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wake-up byte tells of the signal; this only keeps its default action away."""


def _cut_short() -> None:
    framework.eventlet.patcher.original("time").sleep(STOP_SECONDS)
    # os.write() is a greenthread's here
    io.FileIO(2, "w", closefd=False).write(b"ryu-manager: the stop took too long and was cut short\n")
    os._exit(0)


def _watch(service: Any) -> None:
    """A listener runs for ever; the library only logs when it does not."""
    service.wait()
    raise RuntimeError("the OpenFlow listener has ended; the line above tells why")


if __name__ == "__main__":
    sys.exit(main())
