"""Waits until a controller answers; with --host, until a host's agent and switch do; with --etcd, a member of etcd."""

import argparse
import contextlib
import json
import sys
import time
import urllib.request
from typing import Any


def get(urls: str, path: str) -> Any:
    """The answer of the first that gives one."""
    *some, last = urls.split(",")
    for url in some:
        with contextlib.suppress(OSError):
            return get(url, path)
    with urllib.request.urlopen(last.rstrip("/") + path, timeout=3) as answer:
        return json.load(answer)


def etcd_state(url: str) -> tuple[bool, str]:
    """Whether a member of etcd takes requests, and a line."""
    try:
        healthy = get(url, "/health").get("health") == "true"
    except (OSError, ValueError) as error:
        return False, f"etcd does not answer at {url}: {getattr(error, 'reason', error)}"
    return healthy, f"etcd at {url} {'takes' if healthy else 'does not take'} requests"


def state(url: str, with_host: bool, name: str = "") -> tuple[bool, str]:
    """Whether all of it answers, and one line that says what does or what is missing; ``name``: of the host."""
    try:
        version = get(url, "/version").get("Version", "")
        if not with_host:
            return True, f"controller {version}"
        hosts = get(url, "/api/v1/hosts/")
        switches = {s["dpid"] for s in get(url, "/api/v1/switches/") if s["connected"]}
    except (OSError, ValueError) as error:
        return False, f"the controller does not answer at {url}: {getattr(error, 'reason', error)}"
    connected = [host for host in hosts if host.get("connected") and name in ("", host["hostName"])]
    if not connected:
        line = f"the agent of host {name} is not connected" if name else "no agent is connected"
        return False, f"{line} to the controller"
    for host in connected:
        if host.get("switch") in switches:
            return True, f"host {host['hostName']}, switch {host['switch']}"
    return False, f"the switch of host {connected[0]['hostName']} is not connected to the controller"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="a controller's; several with commas")
    parser.add_argument("--etcd", action="store_true", help="it is the URL of a member of etcd")
    parser.add_argument("--host", nargs="?", const="", help="wait for a host too: any, or that one")
    parser.add_argument("--timeout", type=float, default=0.0, help="seconds; 0: ask once")
    options = parser.parse_args()
    end = time.monotonic() + options.timeout
    while True:
        if options.etcd:
            ready, line = etcd_state(options.url)
        else:
            ready, line = state(options.url, options.host is not None, options.host or "")
        if ready or time.monotonic() >= end:
            print(line, file=sys.stdout if ready else sys.stderr)
            return 0 if ready else 1
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
