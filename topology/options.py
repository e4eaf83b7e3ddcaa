"""Options of services and endpoints: from what a user asked for to values, or one line that says what is right.

An option that is left out has its default; one that has no effect without another is refused without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from topology.errors import Invalid
from topology.model import Check, Labels
from topology.validate import TEXT_LIMIT, show

AFFINITY_MODES = ("idle", "absolute")
CHECK_PROTOCOLS = ("tcp", "http")
OURS = "netctl."  # how labels begin that are for netctl
WEIGHT_LABEL = f"{OURS}weight"
MAX_AFFINITY, MAX_DRAIN, MAX_WEIGHT = 65_535, 3600, 100
MIN_INTERVAL, MAX_INTERVAL, MAX_COUNT = 2, 3600, 100

_PATH = re.compile(r"/[!-~]*")  # it goes into a request line as it is
_NUMBER = re.compile(r"[0-9]{1,3}")


def affinity(seconds: int, mode: str) -> tuple[int, str]:
    """How long a client stays with its provider, and since when that counts; 0 seconds: it doesn't stay."""
    if mode and not seconds:
        raise Invalid(
            f"affinityMode {mode} has no effect without sessionAffinity: give its seconds, or leave both out"
        )
    return seconds, mode or AFFINITY_MODES[0]


def check(document: Mapping[str, Any]) -> Check:
    """An active check, of a document that `contract.check` has filled."""
    if not document.get("protocol"):
        raise Invalid("healthCheck protocol required: tcp or http")
    protocol, interval = document["protocol"], document["interval"]
    timeout = document.get("timeout", min(Check().timeout, interval - 1))
    if not 1 <= timeout < interval:
        raise Invalid(
            f"healthCheck timeout {show(timeout)} is out of range: 1 to {interval - 1} seconds, "
            f"less than the interval of {interval}"
        )
    path = _path(protocol, document.get("path", ""))
    return Check(protocol, path, interval, timeout, document["rise"], document["fall"])


def labelled_weight(labels: Labels) -> int:
    """The weight that a container's label gives it. A wrong one counts as 1: the container runs already."""
    return _weight_in(dict(labels).get(WEIGHT_LABEL, "")) or 1


def label_troubles(labels: Labels) -> list[str]:
    """What is wrong with a container's labels that are for netctl: a line each."""
    found = []
    for key, value in labels:
        if key == WEIGHT_LABEL and not _weight_in(value):
            found.append(f"label {key}={show(value)} counts as 1: must be a whole number from 1 to {MAX_WEIGHT}")
        elif key.startswith(OURS) and key != WEIGHT_LABEL:
            found.append(f"label {show(key)} is unknown and has no effect: known is {WEIGHT_LABEL}")
    return found


def _weight_in(text: str) -> int:
    """The weight that a label's value says; 0: none."""
    value = int(text) if _NUMBER.fullmatch(text) else 0
    return value if value <= MAX_WEIGHT else 0


def _path(protocol: str, path: str) -> str:
    if protocol != "http":
        if path:
            raise Invalid(f"healthCheck path {show(path)} is for http only: leave it out with {protocol}")
        return ""
    if len(path) > TEXT_LIMIT:
        raise Invalid(f"healthCheck path {show(path)} has {len(path)} characters: at most {TEXT_LIMIT}")
    if path and not _PATH.fullmatch(path):
        raise Invalid(
            f"healthCheck path {show(path)} is invalid: it begins with / and has no spaces, such as /healthz"
        )
    return path or "/"
