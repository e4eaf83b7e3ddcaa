"""Commands to a running ovs-vswitchd, as `ovs-appctl` gives them: JSON-RPC on its control socket."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

from netctl import reading
from netctl.agent.errors import SwitchError

TIMEOUT = 5.0  # s: a switch that takes in thousands of ports is busy for longer than usual
MAX_ANSWER = 8 << 20  # bytes: 65,536 zones


def call(path: Path, command: str, *parameters: str) -> str:
    """What the switch answers. Raises `SwitchError` where it refuses, or does not answer in time."""
    request = json.dumps({"method": command, "params": list(parameters), "id": 0}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        deadline = time.monotonic() + TIMEOUT
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(path))
            connection.sendall(request)
            content = b""
            while (found := _answer(content)) is None:
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                more = connection.recv(65536)
                if not more or len(content) > MAX_ANSWER:
                    raise SwitchError(f"{command}: ovs-vswitchd's answer at {path} is cut off, or without an end")
                content += more
        except TimeoutError:
            raise SwitchError(f"{command}: ovs-vswitchd does not answer at {path}") from None
        except OSError as error:
            raise SwitchError(f"{command}: ovs-vswitchd at {path}: {error.strerror or error}") from error
    result, refusal = found
    if refusal:
        raise SwitchError(f"{command}: ovs-vswitchd refuses it: {refusal}")
    return result


def _answer(content: bytes) -> tuple[str, str] | None:
    """Result and refusal; None: the answer is not whole yet."""
    if not content.rstrip().endswith(b"}"):
        return None
    try:
        answer = reading.load(content)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return "", "its answer is no answer"
    return str(answer.get("result") or ""), str(answer.get("error") or "")
