"""What only the leading controller knows, asked of it: switches, counters, and how hosts and switches are.

Where no leader answers, what is stored is told without it; what consists of nothing else is refused.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import urllib.error
import urllib.request
from typing import IO

from ryu_apps.wsgi import Request, Response, query, read_body, webob
from topology.errors import Unavailable

LOG = logging.getLogger(__name__)

NOBODY = "no controller leads at the moment: try again in a few seconds"
FORWARDED = "X-Netctl-Forwarded"
TIMEOUT = 20.0  # s: a network waits up to 15 s for every host
READ_TIMEOUT = 6.0
SETTLE_TIMEOUT = 5.0
MAX_ANSWER = 64 << 20
MAX_FORWARDED = 8 << 20  # of a request: what is wrong with each of ten thousand networks
_STREAM = re.compile(r"/api/v1/changes/?$")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def is_hosts_stream(request: Request) -> bool:
    """Whether this makes a host count as connected, where it is: at the leader, who waits for the hosts."""
    path = str(request.path_info)
    return request.method == "GET" and _STREAM.match(path) is not None and bool(query(request, "host"))


def redirect(request: Request, url: str) -> Response:
    """The client is to ask the leader itself."""
    return webob.Response(status=307, location=url + str(request.path_qs))


def forward(request: Request, url: str, body: bytes | None = None) -> Response:
    """The leader's answer. ``body``: the request's, where it has been read. Unavailable: it gives none, or does not
    lead (any more).
    """
    if FORWARDED in request.headers:
        raise Unavailable(NOBODY)
    if body is None and request.method not in ("GET", "HEAD"):
        body = read_body(request, MAX_FORWARDED)
    asked = urllib.request.Request(
        url + str(request.path_qs), data=body or None, method=request.method, headers={FORWARDED: "1"}
    )
    status, kind, answer = _ask(asked, READ_TIMEOUT if request.method == "GET" else TIMEOUT)
    return webob.Response(status=status, content_type=kind, charset="utf-8", body=answer)


def settled(url: str, revision: int) -> None:
    """Wait until the leader's switches carry out a revision; not long."""
    try:
        asked = urllib.request.Request(f"{url}/api/v1/settled/{revision}/", headers={FORWARDED: "1"})
        status, _, answer = _ask(asked, SETTLE_TIMEOUT)
        if status != 200 or not json.loads(answer)["settled"]:
            LOG.warning("revision %d is stored, but not yet in every switch", revision)
    except Unavailable as error:
        LOG.warning("revision %d is stored, but perhaps not in the switches: %s", revision, error)


def _ask(request: urllib.request.Request, timeout: float) -> tuple[int, str, bytes]:
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            return answer.status, answer.headers.get_content_type(), _read(answer, request)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get_content_type(), _read(error, request)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        number = getattr(reason, "errno", None)
        why = os.strerror(number) if number else reason
        raise Unavailable(f"the leading controller at {request.host} does not answer: {why}") from error


def _read(answer: IO[bytes], request: urllib.request.Request) -> bytes:
    """All of it; an answer that is cut off would be taken for one that makes no sense."""
    found = answer.read(MAX_ANSWER + 1)
    if len(found) > MAX_ANSWER:
        raise Unavailable(f"the leading controller's answer has more than {MAX_ANSWER} bytes: ask it at {request.host}")
    return found
