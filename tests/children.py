"""Processes of their own, for tests that kill, limit or group them.

They are forked from one process that has imported what is heavy and done nothing else: a start takes a tenth of a
second instead of seconds. One that trains with loader processes makes a group of itself (os.setpgrp), which is killed
as a whole: they would outlive it. The files that use this are in one group of pytest-xdist, so that the imports are
paid once.
"""

import multiprocessing
import os
import socket
from contextlib import contextmanager

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch.distributed", "timm", "pandas", "pyarrow.parquet", "scipy.stats", "pytest"])
PATIENCE = 300
"""Seconds after which a child has lost."""


def begin(environment, work, arguments):
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    work(*arguments)


@contextmanager
def child(work, *arguments, **environment):
    """A process that does the work, a function of a module; it ends at the latest where the block ends."""
    process = FORKS.Process(target=begin, args=(environment, work, arguments))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def exit_code(work, *arguments, **environment):
    """Of a process that does the work."""
    with child(work, *arguments, **environment) as process:
        process.join(PATIENCE)
        return process.exitcode


def exit_codes_of_two(work, *arguments):
    """Of a pair of processes that find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2))
    first, second = (child(work, *arguments, **common, **rank) for rank in ranks)
    with first as one, second as other:
        for process in (one, other):
            process.join(PATIENCE)
        return one.exitcode, other.exitcode
