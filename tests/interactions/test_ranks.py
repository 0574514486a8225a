"""The group of processes ends with its program, not after it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 120
# What is registered first is called last: it sees the threads that a program takes into its end. A program with a group
# of its own, forked before it has any, and one that is given the group: the imports are paid once.
PROGRAM = """
import atexit, glob, os, sys
names = lambda: [open(path).read().strip() for path in glob.glob("/proc/self/task/*/comm")]
atexit.register(lambda: print("left:", sum("gloo" in name for name in names())))
import torch.distributed as dist
from interactions.runs import ranks
child = os.fork()
if child and os.waitpid(child, 0)[1]:
    sys.exit("the program with a group of its own did not end well")
if child:
    dist.init_process_group("gloo")
dist.barrier(group=ranks.gloo_group())
print("working:", sum("gloo" in name for name in names()) > 0)
if child:
    dist.destroy_process_group()
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc, which Linux has")
def test_no_thread_of_the_group_outlives_it():
    """A thread that runs on while the interpreter ends can abort it: "terminate called without an active exception"."""
    address = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | address,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["working: True", "left: 0"] * 2
