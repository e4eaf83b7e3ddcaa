"""The controller's options, each declared once. In a file they stand under [DEFAULT]."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from oslo_config import cfg

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")


OPTIONS = (
    cfg.StrOpt("rest-host", default="127.0.0.1", help="Address the REST API listens on."),
    cfg.PortOpt("rest-port", default=9999, min=1, help="TCP port the REST API listens on."),
    cfg.StrOpt(
        "store",
        default="/var/lib/netctl/netctl.db",
        metavar="PLACE",
        help="What holds networks, services and endpoints: an SQLite file, made when it is not there; or, for several "
        "controllers, etcd://HOST:PORT,HOST:PORT/PREFIX (etcds:// with TLS).",
    ),
    cfg.StrOpt("store-ca-file", default="", metavar="FILE", help="Who may vouch for etcd; without it, public ones."),
    cfg.StrOpt("store-cert-file", default="", metavar="FILE", help="Our certificate, for an etcd that asks for one."),
    cfg.StrOpt("store-key-file", default="", metavar="FILE", help="The key of that certificate."),
    cfg.MultiStrOpt(
        "rest-name",
        metavar="NAME",
        help="A name, beside localhost and netmaster, by which clients call a REST API on the loopback device; may be "
        "given several times. Requests with another name in Host are refused.",
    ),
    cfg.StrOpt(
        "rest-url",
        default="",
        metavar="URL",
        help="Where the other controllers reach our REST API, when the store is etcd; without it, the address and "
        "port it listens on.",
    ),
    cfg.StrOpt("ofp-listen-host", default="127.0.0.1", help="Address that switches connect to."),
    cfg.PortOpt("ofp-tcp-listen-port", default=6653, min=1, help="TCP port that switches connect to."),
    cfg.IntOpt(
        "ofp-max-connections",
        default=1024,
        min=1,
        help="Most connections on that port at a time; at most half of the descriptors that the process may open.",
    ),
    cfg.IntOpt(
        "learned-per-port",
        default=64,
        min=1,
        max=65535,
        help="How many hosts are learned from their ARP at one port of a switch without an agent; more are ignored.",
    ),
    cfg.FloatOpt(
        "echo-request-interval",
        default=1.0,
        min=0.1,
        metavar="SECONDS",
        help="How often a switch is asked whether it is there.",
    ),
    cfg.IntOpt(
        "maximum-unreplied-echo-requests",
        default=30,
        min=1,
        help="The connection of a switch that leaves more of these questions unanswered in a row is ended.",
    ),
    cfg.StrOpt(
        "log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="Least severity of what is logged.",
    ),
)


def register(conf: Any) -> None:
    """Declare the options to a configuration, in place of the framework's own of the same name.

    The framework would listen on all addresses, and on the old port 6633 as well. A configuration that is
    parsed already (by Ryu's own manager) keeps the framework's options and gets the others.
    """
    try:
        conf.unregister_opts(OPTIONS)
        conf.register_cli_opts(OPTIONS)
    except cfg.ArgsAlreadyParsedError:
        for option in OPTIONS:
            if option.dest not in conf:
                conf.register_opt(option)


def check(conf: Any) -> None:
    """ValueError, with one line: an option's value can't be right, for all that it is of the right type."""
    if conf.rest_url and not _is_url(conf.rest_url):
        raise ValueError(f"rest-url: {conf.rest_url!r} is not a URL: right is http://HOST:PORT or https://HOST:PORT")
    for name in conf.rest_name or ():
        if not _NAME.fullmatch(name):
            raise ValueError(f"rest-name: {name!r} is not a host's name: right is a name without port, such as ctl-1")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        return False
    return known and "@" not in parts.netloc and not parts.query and not parts.fragment
