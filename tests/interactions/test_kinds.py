"""What is found wrong with a record, by hand-written records."""

import json

import pytest

from interactions.runs.kinds import CHOSEN, ORDER, PROFILE, misfit, wrong_part
from interactions.selection import Chosen
from interactions.speed import Speed

IMAGE = {"position": 0, "image": 2, "name": "a.png", "label": None, "target": 1, "digest": "6ee0"}


def test_an_image_is_what_is_chosen():
    assert CHOSEN.keys() == Chosen.__dataclass_fields__.keys() == IMAGE.keys()


def test_alike_in_kind_is_sound():
    assert not misfit([IMAGE], PROFILE["images"])
    assert not misfit({"order": 3, "ratio": 1, "floor": None}, ORDER)
    assert not misfit({"widest": None, "more": []}, {"widest": (None, float), "reached?": int})


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (True, int, "it is true or false"),
        (1.5, int, "it is 1.5"),
        (json.loads("NaN"), float, "it is nan"),
        (10**400, int | None, ""),
        (json.loads("1e999"), float, "it is inf"),
        ([1, 2], [int, int, int], "it is a list of 2"),
        ([IMAGE, {**IMAGE, "label": "cat"}], PROFILE["images"], "1.label is 'cat'"),
        ({"folded": True, "more": 1}, Speed, "it holds 'more', which is not known"),
        ([{"position": 0}], PROFILE["images"], "0.image is missing"),
        ({"order": 3, "ratio": 0.5, "floor": "\x1b[2J"}, ORDER, r"floor is '\x1b[2J'"),
        ({"order": 3, "ratio": 0.5, "floor": 0, "pilot": {"passes": 1}}, ORDER, "pilot.value_variance is missing"),
        ({"keep": 3}, {"keep": PROFILE["settings"]["keep"]}, "keep is 3"),
        ({"ratios": [0.5, None]}, {"ratios": PROFILE["settings"]["ratios?"]}, "ratios.1 is null"),
    ],
)
def test_the_part_that_is_not(value, kind, said):
    assert misfit(value, kind) == said


def test_what_is_missing_is_wrong_unless_parts_are_asked_for():
    record = {"status": "running", "images": [{"name": "a.png"}]}
    assert wrong_part(record, "profile").endswith("is missing")
    assert not wrong_part(record, "profile", whole=False)
    assert wrong_part({**record, "seconds": "many"}, "spectrum", whole=False) == "seconds is 'many'"
