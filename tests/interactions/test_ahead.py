"""Images that threads read while others are measured."""

import threading

import pytest
import torch

from interactions import measure_spectrum, profile_model
from interactions.ahead import EACH, read_ahead
from interactions.selection import candidates
from interactions.settings import ProfileSettings
from tests.interactions.tiny import Photos, network

SETTINGS = ProfileSettings(seed=3)


class Watched(Photos):
    """Photographs that note who reads which, and wait for each other: a single thread would never get on."""

    def __init__(self, count, broken=(), together=1):
        super().__init__(count, broken)
        self.read, self.barrier = [], threading.Barrier(together)

    def __getitem__(self, index):
        self.read.append((index, threading.get_ident()))
        self.barrier.wait(timeout=60)
        return super().__getitem__(index)


def test_the_next_images_are_read_together_and_no_more_than_wait():
    photos = Watched(12, together=3)
    order = list(candidates(12, SETTINGS))
    with read_ahead(photos, SETTINGS, 3) as images:
        assert len(images) == 12
        for number in order:
            pixels, label = images[number]
            assert torch.equal(pixels, Photos(12)[number][0]) and label == Photos(12)[number][1]
            begun = {index for index, _ in photos.read}
            assert begun <= set(order[: order.index(number) + 1 + 3 * EACH])
    assert len({thread for _, thread in photos.read}) == 3 and len(photos.read) == 12
    assert threading.get_ident() not in {thread for _, thread in photos.read}


def test_any_order_is_right_and_what_reading_raises_comes_with_its_image():
    with read_ahead(Photos(6, broken=(2,)), SETTINGS, 2) as images:
        for number in (5, 0, 0, 3, 1):
            assert torch.equal(images[number][0], Photos(6)[number][0])
        with pytest.raises(OSError, match="cannot identify image file 2"):
            images[2]
    with pytest.raises(ValueError, match="num_workers is -1: give 0"), read_ahead(Photos(2), SETTINGS, -1):
        pass
    photos = Photos(2)
    with read_ahead(photos, SETTINGS, 0) as images:
        assert images is photos


def test_measurements_do_not_depend_on_who_reads(tmp_path):
    settings = {"grid": 3, "radius": 1, "ratios": (0.0, 0.5, 1.0), "budget": 100, "images": 5, "unit_images": 2}
    settings |= {"speed": "plain", "batch_size": 64, "progress": False}
    runs = []
    for workers in (0, 3):
        out = tmp_path / f"profile-{workers}"
        runs.append(profile_model(network(), Photos(8, broken=(1,)), out=out, num_workers=workers, **settings))
    one, other = runs
    assert one.images().equals(other.images()) and one.record["images"] == other.record["images"]
    assert one.record["skipped"] == other.record["skipped"] and one.record["data"] == other.record["data"]
    one, other = (
        measure_spectrum(network(), Photos(5), out=tmp_path / f"s-{workers}", num_workers=workers, progress=False)
        for workers in (0, 2)
    )
    assert one.spectrum().equals(other.spectrum())
