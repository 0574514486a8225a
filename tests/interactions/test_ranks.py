"""The group of processes ends with its program, not after it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 120
# What is registered first is called last: it sees the threads that a program takes into its end.
PROGRAM = """
import atexit, glob
names = lambda: [open(path).read().strip() for path in glob.glob("/proc/self/task/*/comm")]
atexit.register(lambda: print("left:", sum("gloo" in name for name in names())))
import torch.distributed as dist
from interactions.runs import ranks
{begin}
dist.barrier(group=ranks.gloo_group())
print("working:", sum("gloo" in name for name in names()) > 0)
{end}
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc, which Linux has")
@pytest.mark.parametrize("joined", [False, True])
def test_no_thread_of_the_group_outlives_it(joined):
    """A thread that runs on while the interpreter ends can abort it: "terminate called without an active exception"."""
    begin, end = ("dist.init_process_group('gloo')", "dist.destroy_process_group()") if joined else ("", "")
    address = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(begin=begin, end=end)],
        env=os.environ | address,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["working: True", "left: 0"]
