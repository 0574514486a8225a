"""What of an optimizer and a schedule is told before a training begins."""

from dataclasses import replace

import pytest

from a2mim.notes import notes
from a2mim.settings import Optim

USUAL = Optim(epochs=10, lr_batch=8)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"epochs": 11}, False),
        ({"warmup_to": "schedule"}, True),
        ({"warmup_to": "schedule", "cosine_from": "start"}, False),  # it falls within the warm-up
        ({"schedule": "poly"}, True),
        ({"schedule": "multistep", "milestones": (5.0,)}, True),
        ({"schedule": "constant"}, False),
        ({"lr": 0.0}, False),
    ],
)
def test_a_warm_up_that_takes_all_of_the_training_is_told(changes, told):
    said = notes(replace(USUAL, **changes), 8)
    whole = "the 10 epochs of warm-up are all of --epochs 10: the learning rate climbs to the last step and never falls"
    assert said == ([f"{whole}; give fewer, such as --warmup-epochs 1, or more epochs"] if told else [])


@pytest.mark.parametrize(
    ("milestones", "said"),
    [
        ((4.0, 9.99), ""),
        ((4.0, 10.0), "of the milestones 4, 10 the training does not reach 10: give --milestones that lie before"),
        ((10.0, 12.5), "no milestone (10, 12.5) lies before the end of --epochs 10: the learning rate never decays"),
    ],
)
def test_milestones_behind_the_end_are_told(milestones, said):
    optim = replace(USUAL, warmup_epochs=0.0, schedule="multistep", milestones=milestones)
    assert "".join(notes(optim, 8)).startswith(said) and bool(notes(optim, 8)) == bool(said)
    assert not notes(replace(optim, schedule="cosine"), 8)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"optimizer": "lookahead_nlars"}, True),
        ({"lr_scaling": "none"}, True),
        ({"lr": 0.3, "lr_batch": 256}, False),  # BYOL's
        ({"lr_batch": 1}, False),  # the same number, and 2 at a batch of 2048
        ({"optimizer": "larc"}, False),  # takes the rate for a limit
        ({"optimizer": "adamw"}, False),
    ],
)
def test_lars_at_the_usual_rate_is_told(changes, told):
    said = notes(replace(Optim(optimizer="lars"), **changes), 2048)
    assert len(said) == told and (not told or "by 0.001 and by the size of weights" in said[0])


@pytest.mark.parametrize(("decay", "weights", "told"), [(0.65, "random", 1), (1.0, "random", 0), (0.65, "run", 0)])
def test_a_layer_decay_of_random_weights_is_told(decay, weights, told):
    said = notes(replace(USUAL, epochs=100, layer_decay=decay), 8, weights)
    assert len(said) == told and all(
        "from random weights they will hardly learn; use --layer-decay 1" in x for x in said
    )
