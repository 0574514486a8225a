"""Whether freed memory stays with the process, counted by the system's page faults."""

import platform
import subprocess
import sys

import pytest

from experiments.memory import keep_freed_memory

COUNT = """
import ctypes, resource, sys
from experiments.memory import keep_freed_memory

if sys.argv[1] == "kept":
    print(keep_freed_memory())
malloc, free, fill = (getattr(ctypes.CDLL(None), name) for name in ("malloc", "free", "memset"))
malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
free.argtypes, fill.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
size, faults = 40 * 2**20, lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():
    block = malloc(size)
    fill(block, 1, size)
    free(block)

use()
before = faults()
for _ in range(5):
    use()
print(faults() - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def counted(how, monkeypatch, **environment):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    line = [sys.executable, "-c", COUNT, how]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()


@glibc
def test_freed_memory_is_not_fetched_again(monkeypatch):
    usual = int(counted("usual", monkeypatch)[0])
    told, kept = counted("kept", monkeypatch)
    assert told == "True"
    assert usual >= 5 * 40 * 2**20 / 2**21  # a fault for each page, of 2 MiB at most
    assert int(kept) < usual / 5


@glibc
def test_what_the_environment_asks_for_stays(monkeypatch):
    assert counted("kept", monkeypatch, MALLOC_TRIM_THRESHOLD_="1048576")[0] == "False"


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False
