"""Many short connections of three kinds, at a steady pace; a script without other modules, for inside of a namespace.

    python rush.py JSON     see `Plan`; goes on until its input ends and it has made enough; says JSON, see `main`

TCP, UDP and TCP over IPv6 in turn, each from a port of its own: what is asked, is answered with the provider's name.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from dataclasses import dataclass

KINDS = ("tcp", "udp", "tcp6")
FIRST_PORT, PORTS = 1024, 64512


@dataclass
class Plan:
    """What to do."""

    vip: str
    vip6: str
    count: int  # at least
    rate: float  # a second
    at_once: int
    patience: float  # s


async def ask(plan: Plan, kind: str, number: int) -> str:
    """Who answers. OSError, TimeoutError: nobody."""
    family = socket.AF_INET6 if kind == "tcp6" else socket.AF_INET
    datagrams = kind == "udp"
    address = (plan.vip6 if kind == "tcp6" else plan.vip, 53 if datagrams else 80)
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM) as made:
        made.setblocking(False)
        if datagrams:  # a port that was used before is the same client to conntrack, and goes where it went then
            made.bind(("", FIRST_PORT + number // len(KINDS) % PORTS))
        async with asyncio.timeout(plan.patience):
            await loop.sock_connect(made, address)
            await loop.sock_sendall(made, b"ask\n")
            answer = await loop.sock_recv(made, 100)
    if not answer.endswith(b"\n"):
        raise ConnectionResetError(0, "closed without an answer")
    return answer.decode().strip()


async def rush(plan: Plan) -> list[tuple[str, float, float, str, str]]:
    """Kind, begin, end, who answered, what went wrong; of each connection."""
    done: list[tuple[str, float, float, str, str]] = []
    room = asyncio.Semaphore(plan.at_once)
    running: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        kind = KINDS[number % len(KINDS)]
        began, name, wrong = time.monotonic(), "", ""
        try:
            name = await ask(plan, kind, number)
        except (OSError, TimeoutError) as error:
            wrong = f"{type(error).__name__} {error}".strip()
        finally:
            room.release()
        done.append((kind, began, time.monotonic(), name, wrong))

    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    start, begun = time.monotonic(), 0
    while begun < plan.count or not ended.done():
        await room.acquire()
        task = asyncio.create_task(one(begun))
        running.add(task)
        task.add_done_callback(running.discard)
        begun += 1
        await asyncio.sleep(max(0.0, start + begun / plan.rate - time.monotonic()))
    await asyncio.gather(*running)
    return done


def main(plan: str) -> None:
    """All connections, as JSON."""
    print(json.dumps(asyncio.run(rush(Plan(**json.loads(plan))))))


if __name__ == "__main__":
    main(sys.argv[1])
