"""Images read by threads while those before them are measured."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from interactions.selection import Images, candidates
from interactions.settings import whole

EACH = 2
"""Images that wait for each thread at the most."""


@contextmanager
def read_ahead(images: Images, settings: Any, threads: int) -> Iterator[Images]:
    """The same data set, whose next images are read by as many threads; as it is where there is none.

    What comes next follows from the order in which a run with these settings (`shuffle`, `seed`) takes images. Reading
    in another one is right as well, and gains nothing. What reading raises, it raises when its image is asked for. The
    data set has to bear that several threads read at once.

    Raises:
        ValueError: less than no thread.
    """
    if whole(threads, "num_workers") < 0:
        raise ValueError(f"num_workers is {threads}: give 0 (none) or more")
    if threads == 0:
        yield images
        return
    pool = ThreadPoolExecutor(threads)
    try:
        yield Ahead(images, list(candidates(len(images), settings)), pool, EACH * threads)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Ahead:
    """State: what is being read, by image number; never more than the `count` that follow the last one asked for."""

    def __init__(self, images: Images, order: Sequence[int], pool: ThreadPoolExecutor, count: int) -> None:
        self.images, self.order, self.pool, self.count = images, order, pool, count
        self.place = {number: place for place, number in enumerate(order)}
        self.reading: dict[int, Future[tuple[Tensor, Any]]] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Any]:
        place = self.place[number]
        wanted = self.order[place : place + 1 + self.count]
        for each in self.reading.keys() - set(wanted):
            self.reading.pop(each).cancel()
        for each in wanted:
            if each not in self.reading:
                self.reading[each] = self.pool.submit(self.images.__getitem__, each)
        return self.reading.pop(number).result()
