"""Waits until the controller answers and, with --host, until a host's agent and switch are connected."""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any


def get(url: str, path: str) -> Any:
    with urllib.request.urlopen(url.rstrip("/") + path, timeout=3) as answer:
        return json.load(answer)


def state(url: str, with_host: bool, name: str = "") -> tuple[bool, str]:
    """Whether all of it answers, and one line that says what does or what is missing; ``name``: of the host."""
    try:
        version = get(url, "/version").get("Version", "")
        if not with_host:
            return True, f"controller {version}"
        hosts = get(url, "/api/v1/hosts/")
        switches = {s["dpid"] for s in get(url, "/api/v1/switches/") if s["connected"]}
    except (OSError, urllib.error.URLError, ValueError) as error:
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
    parser.add_argument("url")
    parser.add_argument("--host", nargs="?", const="", help="wait for a host too: any, or that one")
    parser.add_argument("--timeout", type=float, default=0.0, help="seconds; 0: ask once")
    options = parser.parse_args()
    end = time.monotonic() + options.timeout
    while True:
        ready, line = state(options.url, options.host is not None, options.host or "")
        if ready or time.monotonic() >= end:
            print(line, file=sys.stdout if ready else sys.stderr)
            return 0 if ready else 1
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
