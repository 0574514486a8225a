"""What the tests run in processes of their own."""

import dataclasses
import os
import time

import torch

from a2mim.dist import join
from a2mim.evaluate.accuracy import accuracy, pooled_features
from a2mim.gallery import Gallery
from a2mim.progress import Hooks
from tests.a2mim.tiny import (
    LOOP,
    OPTIM,
    Classify,
    Denoise,
    tiny_images,
    tiny_method,
    tiny_run,
    tiny_source,
)

KILLED = dataclasses.replace(LOOP, save_every=2, ema=0.9)
PLAIN = {"norm": False, "dropout": 0.0}


class Slow(Denoise):
    """Leaves its parent time to kill it."""

    def after_step(self, begun, done):
        time.sleep(0.05)


def train_slowly(folder):
    """Train with loader processes until killed, as a group of processes, which end together."""
    os.setpgrp()
    tiny_run(folder, Slow, tiny_source(workers=2), loop=KILLED)


def pair(folder):
    """What test_dist compares: run by every process of a pair."""
    with join("cpu") as world:
        # the same weights must come out as in one process, even if the processes begin with different ones
        torch.manual_seed(world.rank)
        plain, _ = tiny_run(folder / "plain", Classify, world=world, net=PLAIN)
        noisy, result = tiny_run(folder / "noisy", Denoise, world=world)
        cut = dataclasses.replace(LOOP, minutes=1e-9)
        for _ in range(3):
            tiny_run(folder / "cut", Denoise, loop=cut, world=world)
        resumed, _ = tiny_run(folder / "cut", Denoise, world=world)
        try:
            tiny_run(folder / "bad", OneIsBad, world=world)
            sentence = ""
        except ValueError as error:
            sentence = str(error)
        once = {"optim": dataclasses.replace(OPTIM, epochs=1), "hooks": Hooks(evaluate=statistics), "world": world}
        averaged = dataclasses.replace(LOOP, ema=0.5)
        evaluated = [tiny_run(folder / f"ema-{loop.ema}", loop=loop, **once) for loop in (LOOP, averaged)]
        # kron draws by which of the gradients it is preconditioned
        drawn, _ = tiny_run(
            folder / "drawn",
            Classify,
            net=PLAIN,
            world=world,
            optim=dataclasses.replace(OPTIM, epochs=1, optimizer="kron"),
        )
        gallery = Gallery(tiny_images(13), 16, (0.5,) * 3, (0.25,) * 3, batch=4)
        metrics = accuracy(tiny_method(Classify).backbone, gallery, world)
        features, target, index = pooled_features(tiny_method(Classify).backbone, gallery, world)
        rank = torch.tensor([world.rank])
        sent = [torch.full((2, 3), float(world.rank)).T, rank + 3, rank == 0]
        world.from_main(sent)
        torch.save(
            {
                "plain": plain.state_dict(),
                "noisy": noisy.state_dict(),
                "drawn": drawn.state_dict(),
                "resumed": resumed.state_dict(),
                "sentence": sentence,
                "metrics": metrics,
                "features": features,
                "target": target,
                "index": index,
                "evaluated": [result["last"]["top1"] for _, result in evaluated],
                "sent": sent,
                "gathered": world.gather(rank),
                "largest": world.largest(world.rank, 5 - world.rank),
                "total": world.total(rank + 1),
                "result": {"processes": result["processes"], "last": result["last"]},
            },
            folder / f"rank{world.rank}.pt",
        )


def statistics(method):
    """In the place of an accuracy: what a process evaluates with besides the weights."""
    return {"top1": float(sum(buffer.sum() for buffer in method.buffers()))}


class OneIsBad(Denoise):
    """Only the second process sees the loss that is not a number."""

    def forward(self, batch, generator):
        values = super().forward(batch, generator)
        if torch.distributed.get_rank() == 1 and len(self.progress) == 6:
            values["loss"] = values["loss"] * torch.nan
        return values
