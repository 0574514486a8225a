"""Occlusion robustness: accuracy against the share of image cells that are dropped, and under shuffled cells.

    run = measure_occlusion(model, dataset, out="runs/resnet50-occlusion", grid=14, images=500)
    run.occlusion()          # one row per kind and share: top1 with its interval
    run.shuffling()          # one row per k×k cut

PatchDrop of Naseer et al. 2021 (arXiv 2105.10497): of the n cells of a g×g grid, some are replaced by a baseline; they
are random ones, the most salient or the least salient. Whatever is dropped at a share is dropped at every larger one.
Which random cells are dropped, and how patches are shuffled, depends on the seed and the image's name alone: all models
see the same pictures. Salient cells are the model's own, or those of another run (`saliency=FOLDER`), again the same.

The masking point says where "zero", the usual baseline, is set. Let x be pixels in 0 to 1 and z = (x − mean) / std the
model's input:

    after_normalisation    z = 0 in a dropped cell: the data set's mean colour (as in the published interaction code)
    before_normalisation   x = 0 in a dropped cell: black, z = −mean / std (as PatchDrop's code does)

The two coincide where mean = 0, and for every baseline that is a given colour or a weighted mean of the image's pixels
(mean, image_mean, black, blur): normalisation commutes with those. They differ for zero, and for noise, which is
standard normal in z after normalisation and uniform in x before it. Cells that stay are the same to the bit either way.

Images are measured in units of a few; an interrupted run goes on where it was and ends with the same numbers.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from interactions.ahead import read_ahead
from interactions.baselines import BASELINES, Normalisation
from interactions.forecast import forecast
from interactions.game import PatchGame, check_names
from interactions.grid import PatchGrid
from interactions.occluded import Occlusion, digest_of, load_occlusion, saliency_of, saliency_table
from interactions.own import FUNCTIONS, with_names
from interactions.runs.ranks import Ranks
from interactions.runs.record import NOTHING, Material, begin_run, place_of
from interactions.runs.units import backed_off, carry_out, finish, measure_units
from interactions.saliency import SALIENCIES, cell_saliency
from interactions.seen import seen
from interactions.selection import Chosen, Images, read_again, select
from interactions.settings import OcclusionSettings, ProfileSettings, settled
from interactions.shuffling import ShuffledGame, shuffle_grids
from interactions.speed import Speed, recorded, settle
from interactions.tokens import DROP

PILOT_IMAGES = 2
ROW_BYTES = 8
"""Of a picture's row in the tables, as written."""
TABLES = ("occlusion.csv", "shuffling.csv")

# What a baseline is called among BASELINES where its meaning depends on the masking point.
AT_POINT = {
    ("zero", "after_normalisation"): "mean",
    ("zero", "before_normalisation"): "black",
    ("noise", "before_normalisation"): "uniform_noise",
}


def measure_occlusion(
    model: nn.Module,
    dataset: Images,
    *,
    out: str | Path,
    normalisation: Normalisation | None = None,
    names: Sequence[str] | None = None,
    model_name: str = "",
    data_name: str = "",
    transform: Mapping[str, Any] = NOTHING,
    about: Mapping[str, Any] = NOTHING,
    num_workers: int = 0,
    progress: bool = True,
    dry_run: bool = False,
    **settings: Any,
) -> Occlusion:
    """Measure a model's accuracy on occluded and on shuffled images; go on if `out` holds the run unfinished.

    Started by torchrun, every process calls this with the same arguments, and each measures its share of the images.

    Args:
        model: from normalised images B×C×H×W to logits B×K, on the device where it is to run.
        dataset: image number -> (normalised image C×H×W, label); see `profile_model`. Without a label an image cannot
            be measured.
        out: folder of the run: run.json, images/, saliency/, shuffling/, occlusion.csv, shuffling.csv.
        normalisation: mean and std by which the data set's pixels were normalised (ImageNet's when None).
        names: of the images. Random cells go by them; without names, by the image's number.
        model_name, data_name: for the record.
        transform: how the data set makes its images, ready for JSON; a run with another is not gone on with.
        about: what else to record of this start, ready for JSON, such as the commit of the source tree.
        num_workers, dry_run: as of `profile_model`.
        settings: the fields of `OcclusionSettings`.

    Raises:
        ValueError: impossible settings; images without labels; no usable image; a folder that holds another run; a run
            to take saliency from that lacks it; a model without the attention that was asked for.
        FileNotFoundError: no run to take saliency from.
        NonFiniteValueError: the model returned NaN or infinity; names the image.
        OSError: a folder that cannot be written to, a full disk.
    """
    wanted = settled(OcclusionSettings(**with_names(settings)))
    material = Material.of(model, dataset, names, model_name, data_name, transform)
    with read_ahead(dataset, wanted, num_workers) as images:
        run = Run(replace(material, dataset=images), Path(out), wanted, normalisation or Normalisation(), progress)
        carry_out(run.folder, partial(run.begin, about, dry_run), run.measure_units, run.finish)
    return load_occlusion(out)


class Run:
    """One model, one data set and one folder. State: the two games, which keep their network from unit to unit."""

    def __init__(
        self,
        material: Material,
        folder: Path,
        settings: OcclusionSettings,
        normalisation: Normalisation,
        progress: bool,
    ) -> None:
        settings.check()
        self.material, self.folder, self.progress = material, folder, progress
        self.settings, self.normalisation = settings, normalisation
        self.read_again = partial(read_again, material.dataset, labelled=True)
        self.grid = PatchGrid(settings.grid)
        self.baseline = AT_POINT.get((settings.baseline, settings.masking), settings.baseline)
        if self.baseline not in (*BASELINES, *FUNCTIONS["baseline"], DROP):
            known = ", ".join((*BASELINES, DROP))
            raise ValueError(f"unknown baseline {settings.baseline!r}: choose one of zero, {known}")
        check_names("correct", self.baseline, settings.amp)
        self.dropped_D = dropped_cells(settings.shares, self.grid.n_players)
        self.ranked = [kind for kind in settings.kinds if kind != "random"]
        self.seen = seen(material.transform, self.normalisation)
        self.given = None
        if self.ranked and settings.saliency not in SALIENCIES:
            self.given = saliency_of(settings.saliency, self.grid)
        self.games: dict[str, PatchGame] = {}

    def begin(self, about: Mapping[str, Any], dry_run: bool = False) -> dict[str, Any]:
        """The record to go on with; a fresh run chooses its images and its batch size here."""
        # By its contents, a table of saliency is the same wherever it lies.
        by_contents = {} if self.given is None else {"saliency": f"table {digest_of(self.given.cells)}"}
        settings = asdict(self.settings) | by_contents | {"normalisation": asdict(self.normalisation)}
        return begin_run(
            self.folder,
            self.material.asked(settings),
            asdict(OcclusionSettings()),
            self._settle,
            place_of(self.material.model, about),
            TABLES,
            "occlusion",
            say=self.progress,
            dry_run=dry_run,
            again=self.read_again,
        )

    def measure_units(self, record: dict[str, Any], ranks: Ranks) -> None:
        """Measure and write this rank's share of the units that are not there yet."""

        def measure_unit(chosen: Sequence[Chosen], on_batch: Callable[[int], object], _: Any) -> tuple[Any, Any]:
            images_ICHW, speed = self.read_again(chosen), recorded(record)
            game = self._play(PatchGame, chosen, images_ICHW, record["batch_size"], speed, on_batch)
            parts, sizes = self._occlude(game, chosen), [game.batch_size]
            if record["shuffle_grids"]:
                game = self._play(ShuffledGame, chosen, images_ICHW, record["batch_size"], speed, on_batch)
                parts["shuffling"] = self._shuffle(game, chosen, record["shuffle_grids"])
                sizes.append(game.batch_size)
            return parts, {"batch_size": min(sizes)}  # type: ignore[type-var]

        measure_units(self.folder, record, self.settings.unit_images, ranks, measure_unit, self.progress)

    def finish(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write the tables, then the record that calls the run complete."""
        run = Occlusion(self.folder, record)
        return finish(
            self.folder,
            record,
            self.settings.unit_images,
            dict(zip(TABLES, (run.occlusion, run.shuffling), strict=True)),
            backed_off=lambda: backed_off(self.folder, record),
        )

    def _settle(self) -> dict[str, Any]:
        """Choose the images and the batch size, and find out before any time is spent what cannot be measured."""
        settings = self.settings
        wanted = ProfileSettings(value="correct", images=settings.images, shuffle=settings.shuffle, seed=settings.seed)
        of = self.material
        selection = select(of.model, of.dataset, of.names, wanted, self.progress, wanted=wanted.images)
        assert selection.shape is not None
        size = selection.shape[1:]
        self.grid.pixels(torch.ones(1, self.grid.n_players, dtype=torch.bool), *size)  # refuses too fine a grid
        grids = shuffle_grids(self.settings.shuffle_grids, size)
        pilot = selection.chosen[:PILOT_IMAGES]
        game = self._play(PatchGame, pilot, self.read_again(pilot), None, Speed())
        if self.grid.n_players in self.dropped_D:
            game.refuse_empty()
        if self.ranked:
            self._saliency(game, pilot if self.given is None else selection.chosen)
        game.typical = max(1, self.grid.n_players - round(sum(self.dropped_D) / len(self.dropped_D)))
        inner = sum(0 < dropped < self.grid.n_players for dropped in self.dropped_D)
        draws = sum(self.settings.seeds if kind == "random" else 1 for kind in self.settings.kinds)
        cuts = sum(1 if side == 1 else self.settings.seeds for side in grids)
        passes = inner * draws + len(self.dropped_D) - inner + cuts
        return {
            "players": self.grid.n_players,
            "classes": selection.classes,
            "image_shape": selection.shape,
            "dropped": self.dropped_D,
            "shuffle_grids": grids,
            "saliency_from": self.settings.saliency if self.given is not None else None,
            "saliency_unlike": self.given.shown_otherwise(self.seen) if self.given is not None else [],
            **settle(game, settings.speed, settings.batch_size, passes * len(selection.chosen), self.progress),
            **forecast(passes * len(selection.chosen), ROW_BYTES * passes * len(selection.chosen)),
            "backed_off": False,
            "passes_per_image": passes,
            "skipped": selection.skipped,
            "images": [asdict(one) for one in selection.chosen],
        }

    def _play(
        self,
        kind: type[PatchGame],
        chosen: Sequence[Chosen],
        images_ICHW: Tensor,
        batch_size: int | None,
        speed: Speed,
        on_batch: Callable[[int], object] | None = None,
    ) -> PatchGame:
        """A game on these images, with the network of the games before."""
        targets_I, names = torch.tensor([one.label for one in chosen]), [one.name for one in chosen]
        settings = self.settings
        before = self.games.get(kind.__name__)
        if before is None:
            game = kind(
                self.material.model,
                images_ICHW,
                targets_I,
                self.grid,
                "correct",
                "mean" if kind is ShuffledGame else self.baseline,  # shuffled images lack no cell
                normalisation=self.normalisation,
                batch_size=batch_size,
                amp=settings.amp,
                names=names,
            )
            other = next(iter(self.games.values()), None)
            game.run_as(speed) if other is None else game.run_like(other)
        else:
            game = before.holding(images_ICHW, targets_I, names)
        game.batch_size, game.on_batch = game.batch_size or batch_size, on_batch
        self.games[kind.__name__] = game
        return game

    def _saliency(self, game: PatchGame, chosen: Sequence[Chosen]) -> Tensor:
        """Saliency of the cells of each image, I×n: of the model, or of the run that was given."""
        if self.given is None:
            name = self.settings.saliency
            return cell_saliency(name, game.eager, game.images_ICHW, game.reference_I, game.absent_ICHW, self.grid)
        return self.given.of(chosen, self.seen)

    def _occlude(self, game: PatchGame, chosen: Sequence[Chosen]) -> dict[str, pd.DataFrame]:
        """Whether the model is right on each image of the unit under every occlusion, and what was salient."""
        parts, place_of_cell, n = {}, {}, self.grid.n_players
        if "random" in self.settings.kinds:
            place_of_cell["random"] = self._draw(chosen, "cells", n).argsort(-1)
        if self.ranked:
            saliency_IN = self._saliency(game, chosen)
            salient_IN = saliency_IN.argsort(dim=1, descending=True, stable=True)  # of equals the first cell
            place_of_cell["salient"] = salient_IN.argsort(1)[:, None]
            place_of_cell["non_salient"] = n - 1 - place_of_cell["salient"]
            parts["saliency"] = saliency_table(chosen, saliency_IN)
        dropped_D = torch.tensor(self.dropped_D)
        shown = {kind: place_of_cell[kind][:, :, None, :] >= dropped_D[:, None] for kind in self.settings.kinds}
        image_B = torch.cat([row_images(shown_ISDN) for shown_ISDN in shown.values()])
        right_B = evaluate(game, torch.cat([shown_ISDN.flatten(0, 2) for shown_ISDN in shown.values()]), image_B)
        right = right_B.split([shown_ISDN[..., 0].numel() for shown_ISDN in shown.values()])
        tables = []
        for (kind, shown_ISDN), right_b in zip(shown.items(), right, strict=True):
            right_ISD = right_b.view(shown_ISDN.shape[:3])
            tables.append(self._rows(chosen, right_ISD, "dropped", self.dropped_D, {"kind": kind}))
        parts["images"] = pd.concat(tables, ignore_index=True)
        return parts

    def _shuffle(self, game: PatchGame, chosen: Sequence[Chosen], grids: Sequence[int]) -> pd.DataFrame:
        """Whether the model is right on each image of the unit with its k×k cells in random order, for every k."""
        right = []
        for side in grids:
            order_ISN = self._draw(chosen, f"shuffle {side}", side**2)
            right_B = evaluate(game, order_ISN.flatten(0, 1), row_images(order_ISN))
            right.append(right_B.view(order_ISN.shape[:2]))
        return self._rows(chosen, torch.stack(right, 2), "grid", grids, {})

    def _draw(self, chosen: Sequence[Chosen], purpose: str, n: int) -> Tensor:
        """A random order of n things for every image and seed, I×S×n."""
        seeds = range(self.settings.seed, self.settings.seed + self.settings.seeds)
        return torch.stack(
            [torch.stack([random_order(n, purpose, seed, one.name) for seed in seeds]) for one in chosen]
        )

    def _rows(
        self, chosen: Sequence[Chosen], right_ISK: Tensor, by: str, values: Sequence[int], more: Mapping[str, str]
    ) -> pd.DataFrame:
        images, seeds, count = right_ISK.shape
        columns = {
            "image": np.repeat(np.array([one.image for one in chosen], np.int32), seeds * count),
            "seed": np.tile(np.repeat(np.arange(seeds, dtype=np.int32) + self.settings.seed, count), images),
            by: np.tile(np.array(values, np.int32), images * seeds),
            "correct": right_ISK.flatten().numpy(),
        }
        return pd.DataFrame({**columns, **more})


def evaluate(game: PatchGame, rows_BN: Tensor, image_B: Tensor) -> Tensor:
    """Whether the model is right on each row, bool B on the CPU; rows that show the same picture are evaluated once."""
    keyed = torch.cat([image_B[:, None], rows_BN.long()], 1)
    unique_U, which_B = keyed.unique(dim=0, return_inverse=True)
    right_U = game(unique_U[:, 1:].to(rows_BN.dtype), unique_U[:, 0])
    return right_U.cpu()[which_B] > 0.5


def row_images(rows_IxN: Tensor) -> Tensor:
    """To which image each row belongs when all dimensions but the last are flattened."""
    return torch.arange(len(rows_IxN)).repeat_interleave(math.prod(rows_IxN.shape[1:-1]))


def random_order(n: int, purpose: str, seed: int, name: str) -> Tensor:
    """A permutation of 0 … n − 1 that depends on nothing but the arguments."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{name}".encode(errors="surrogateescape")).digest()
    return torch.randperm(n, generator=torch.Generator().manual_seed(int.from_bytes(digest[:7])))


def dropped_cells(shares: Sequence[float], n: int) -> list[int]:
    """The whole numbers of cells nearest to the shares, ascending, without repetition."""
    return sorted({math.floor(share * n + 0.5 + 1e-9) for share in shares})
