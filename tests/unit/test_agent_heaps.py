"""The heaps of an agent's many threads."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes, sys, tempfile, threading
from netctl.agent import heaps

if sys.argv[1] == "shared":
    heaps.share()
libc = ctypes.CDLL(None)
together = threading.Barrier(30)

def work():
    together.wait()
    libc.free.argtypes, libc.malloc.restype = [ctypes.c_void_p], ctypes.c_void_p
    libc.free(libc.malloc(10_000))
    together.wait()

threads = [threading.Thread(target=work) for _ in range(30)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
with tempfile.NamedTemporaryFile() as file:
    out = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, out)
    libc.fclose(out)
    print(file.read().count(b"<heap nr="))
"""


def heaps_of(how: str) -> int:
    """How many a process with thirty threads has."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=60, check=True
    )
    return int(done.stdout)


def test_threads_share_a_few() -> None:
    """Each of many heaps keeps what its largest request took: the agent's memory grows for hours."""
    assert heaps_of("not") > 2
    assert heaps_of("shared") <= 2
