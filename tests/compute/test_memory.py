"""Memory that is freed stays with the process, where the C library lets it."""

import ctypes
import subprocess
import sys

import pytest

from mdebench.compute.memory import keep_freed_memory

AGAIN = """
import resource, torch
from mdebench.compute.memory import keep_freed_memory
{keep}
def faults():
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MB: more than the C library keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin
print(min(faults() for _ in range(10)))  # small blocks may lie in the way of the first few
"""


def faults(keep):
    done = subprocess.run([sys.executable, "-c", AGAIN.format(keep=keep)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="machine: another C library than glibc")
def test_memory_that_was_freed_is_not_asked_for_again():
    assert faults("keep_freed_memory()") < 100 < faults("")


def test_nothing_happens_where_the_c_library_has_no_such_choice(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory.__wrapped__()
