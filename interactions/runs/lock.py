"""One process, or one group of them, at work in a folder: a lock that says who it is, and that dies with its holder.

OUT/.lock holds the host, the number and the start of the process, which refreshes it every ten seconds. Of a process
that is gone from this host it counts for nothing; that of another host, from which nothing can be asked, once it was
watched for half a minute without a refresh.
"""

import _thread
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from interactions.runs.ranks import Ranks
from interactions.runs.storage import refuse_unwritable

NAME = ".lock"
LEASE = 30.0
"""Seconds without a refresh after which another host's lock is taken over."""


LOST: set[Path] = set()
"""Folders whose lock this process lost."""


def is_lost(folder: Path) -> bool:
    """Whether another process may be at work in a folder that this one held: nothing more is to be written there."""
    return folder.resolve() in LOST


@contextmanager
def held(folder: Path, ranks: Ranks | None = None) -> Iterator[None]:
    """Hold a folder, which is made where it is not there; one that was made and that nothing was put into goes again.

    Of several ranks the first holds it for all.

    Raises:
        ValueError: another process holds it; says which.
        OSError: a folder that cannot be made or written to.
    """
    ranks = ranks or Ranks()
    taken: list[tuple[SoftFileLease, list[Path]]] = []
    ranks.from_first(lambda: taken.append(_take(folder)))
    try:
        yield
    finally:
        for lock, made in taken:
            lock.release()
            for path in made:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()


def _take(folder: Path) -> tuple[SoftFileLease, list[Path]]:
    """The lock, and the folders that were made for it, the innermost first."""
    refuse_unwritable(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = SoftFileLease(folder / NAME, lease_duration=LEASE, on_compromise=_lost, thread_local=False)
    LOST.discard(folder.resolve())
    before = lock.owner
    try:
        lock.acquire(timeout=0)
    except Timeout:
        before = lock.owner or before
        if before is None or _is_here(before.hostname):
            raise _refusal(folder, lock) from None
        print(f"{folder} is held by process {before.pid} on {before.hostname}: looking whether it is alive …")
        try:
            lock.acquire(timeout=1.5 * LEASE)
        except Timeout:
            raise _refusal(folder, lock) from None
    if before is not None:
        who = f"process {before.pid} on {before.hostname}"
        print(f"note: {who} left {folder} unfinished and is gone: going on in its place", file=sys.stderr)
    return lock, made


def _refusal(folder: Path, lock: SoftFileLease) -> ValueError:
    owner = lock.owner
    who = f"process {owner.pid} on {owner.hostname}" if owner else "another process"
    return ValueError(f"{who} is at work in {folder}: wait for its end, or give another output folder")


def _is_here(host: str) -> bool:
    """Whether a lock's host is this one: by its name, and in a container by its table of processes."""
    name, _, space = host.partition("?pidns-")
    own = Path("/proc/self/ns/pid")
    return name == socket.gethostname() and (not space or (own.exists() and space == f"{own.stat().st_ino:x}"))


def _lost(what: LeaseCompromise) -> None:
    """Called beside the work when the lock is gone: another process may write now, so this one stops."""
    folder = Path(what.lock_file).parent
    LOST.add(folder.resolve())
    print(f"\n{folder} was taken away, or taken over by another process ({what.reason}): stopping", file=sys.stderr)
    _thread.interrupt_main()
