"""The OpenFlow framework, seen through one door: `ryu` where that runs us, else its continuation `os_ken`.

Nothing but this module and `ryu_apps.manager` names either. All greenthreads are eventlet's: the other hub
of os-ken does not notice that a switch has gone, and its events wait longer than their timeout.

An unexpected exception must not end as a line in a log with a feature dead behind it: `fatal` stops the
process, whose supervisor starts it again. `App` does so for its handlers, `spawn` for threads.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

os.environ["OSKEN_HUB_TYPE"] = "eventlet"
os.environ["RYU_HUB_TYPE"] = "eventlet"
# names are looked up at start only; eventlet's own resolver would differ from the machine's
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")

NAME = "ryu" if "ryu" in sys.modules or os.environ.get("NETCTL_FRAMEWORK") == "ryu" else "os_ken"
"""The package that we run on."""

with warnings.catch_warnings():
    # eventlet greets every import with advice to its authors' future users
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    eventlet = importlib.import_module("eventlet")
    importlib.import_module("eventlet.wsgi")

if NAME == "ryu" and not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
    # Ryu 4.34 imports a name that eventlet has dropped since; it is used only for Ryu's own REST server
    eventlet.wsgi.ALREADY_HANDLED = []


def load(name: str) -> Any:
    """A module of the framework, by its name inside it."""
    with warnings.catch_warnings():
        if NAME == "ryu":
            # invalid escapes and the like, in code of 2020
            warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(f"{NAME}.{name}")


hub = load("lib.hub")
cfg = load("cfg")
CONF = cfg.CONF
app_manager = load("base.app_manager")
ofp_event = load("controller.ofp_event")
handler = load("controller.handler")
HANDSHAKE_DISPATCHER = handler.HANDSHAKE_DISPATCHER
CONFIG_DISPATCHER = handler.CONFIG_DISPATCHER
MAIN_DISPATCHER = handler.MAIN_DISPATCHER
DEAD_DISPATCHER = handler.DEAD_DISPATCHER
event = load("controller.event")
ofproto = load("ofproto.ofproto_v1_3")
parser = load("ofproto.ofproto_v1_3_parser")
ofproto_v1_3 = ofproto
ofproto_v1_3_parser = parser

packet = load("lib.packet.packet")
ethernet = load("lib.packet.ethernet")
arp = load("lib.packet.arp")
ipv4 = load("lib.packet.ipv4")
ipv6 = load("lib.packet.ipv6")
icmp = load("lib.packet.icmp")
tcp = load("lib.packet.tcp")
udp = load("lib.packet.udp")
vlan = load("lib.packet.vlan")
lldp = load("lib.packet.lldp")

_LOG = logging.getLogger(__name__)

_Handler = TypeVar("_Handler", bound=Callable[..., object])


def set_ev_cls(ev_cls: Any, dispatchers: Any = None) -> Callable[[_Handler], _Handler]:
    """Declare a method of an `App` the handler of an event class, or of a list of them, in these states."""
    decorate: Callable[[_Handler], _Handler] = handler.set_ev_cls(ev_cls, dispatchers)
    return decorate


_BASE: Any = app_manager.RyuApp if NAME == "ryu" else app_manager.OSKenApp


def patch() -> None:
    """Make the standard library's blocking calls those of greenthreads, in the whole process."""
    # not the framework's own patch(thread=True), which in os-ken leaves all but threads as they are
    eventlet.monkey_patch()


def _exit(exc: BaseException) -> NoReturn:
    logging.shutdown()
    sys.stderr.flush()
    # not sys.exit(): only the main greenlet would end, and nothing may keep a broken process alive
    os._exit(1)


_on_fatal: Callable[[BaseException], None] = _exit


def set_fatal_handler(handle: Callable[[BaseException], None] | None) -> None:
    """What `fatal` does in the end; None: exit with status 1, as it does without this."""
    global _on_fatal  # noqa: PLW0603
    _on_fatal = handle or _exit


def fatal(exc: BaseException) -> None:
    """An exception that nobody expected: log it and stop the process, with exit status 1."""
    _LOG.critical("stopping: unexpected %s: %s", type(exc).__name__, exc, exc_info=exc)
    _on_fatal(exc)


def spawn(fn: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
    """Run ``fn`` in a greenthread of its own (``kill`` and ``wait`` it); its exceptions are fatal."""

    def run() -> object:
        try:
            return fn(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must stop the process
            fatal(exc)
            return None

    return hub.spawn(run)


class Progress:
    """Greenthreads that wait for something to go on: all are woken whenever it does, and look for themselves."""

    def __init__(self) -> None:
        self._waiting: list[Any] = []

    def made(self) -> None:
        """It has gone on."""
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until it holds, at most ``timeout`` seconds; whether it does."""
        until = time.monotonic() + timeout
        while not condition():
            left = until - time.monotonic()
            if left <= 0:
                return False
            event = hub.Event()
            self._waiting.append(event)
            if not event.wait(timeout=left):
                self._waiting.remove(event)
        return True


def _loud(handle: Callable[[Any], object]) -> Callable[[Any], object]:
    @functools.wraps(handle)  # the event's states hang on the function's attributes
    def run(ev: Any) -> object:
        try:
            return handle(ev)
        except Exception as exc:
            fatal(exc)
            # leaves the event loop, which would log anything else and go on
            raise hub.TaskExit from exc

    return run


class App(_BASE):  # type: ignore[misc]
    """Base of our applications: an exception in a handler is fatal; threads end when it stops."""

    OFP_VERSIONS = [ofproto.OFP_VERSION]  # noqa: RUF012 - the framework's way to declare

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._workers: list[Any] = []

    def register_handler(self, ev_cls: type, handler: Callable[[Any], object]) -> None:
        """Called by the framework for each decorated method."""
        super().register_handler(ev_cls, _loud(handler))

    def spawn(self, fn: Callable[..., object], *args: Any) -> Any:
        """A greenthread whose exceptions are fatal, killed when the application stops."""
        worker = spawn(fn, *args)
        self._workers = [*(old for old in self._workers if not old.dead), worker]
        return worker

    def stop(self) -> None:
        """Called by the framework at the end."""
        for worker in self._workers:
            hub.kill(worker)
        self._workers.clear()
        super().stop()
