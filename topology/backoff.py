"""Slows down the restarts of a service that does not stay up: ``python -m topology.backoff FILE`` before each start.

As scripts/supervise does it: at once after a long life, later and later after short ones, up to 30 s, and for ever.
systemd has such steps from release 254 on (RestartSteps), Debian 12 has 252. FILE holds the number of short lives in a
row and when the last one began; where it is not there, or makes no sense, this is the first.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

LONG_LIFE = 10.0  # s: a program that ran for so long is not failing to start
FIRST, MOST = 0.1, 30.0  # s of a pause


def pause(failures: int) -> float:
    """Seconds before the next start, after so many short lives in a row."""
    return min(MOST, FIRST * 2.0 ** min(failures - 1, 16)) if failures > 0 else 0.0


def failures(text: str, now: float) -> int:
    """Short lives in a row, this one's predecessor included; ``text``: what the file says."""
    try:
        count, began = text.split()
        before, life = int(count), now - float(began)
    except ValueError:
        return 0
    return before + 1 if before >= 0 and 0.0 <= life < LONG_LIFE else 0


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # not set by anybody, and begins with the machine


def main(
    argv: Sequence[str] | None = None,
    now: Callable[[], float] = _now,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Wait, and note that a life begins."""
    args = sys.argv[1:] if argv is None else list(argv)
    if len(args) != 1:
        print("usage: python -m topology.backoff FILE", file=sys.stderr)
        return 2
    file, text = Path(args[0]), ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = file.read_text()[:100]
    count = failures(text, now())
    if count:
        print(f"short life number {count} in a row; starts again in {1000 * pause(count):.0f} ms", flush=True)
        sleep(pause(count))
    # whole or not at all; a start must not fail for want of it
    with contextlib.suppress(OSError):
        Path(f"{file}.new").write_text(f"{count} {now()}\n")
        os.replace(f"{file}.new", file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
