"""PatchGame: coalitions of cells in, values v out, batched on the device.

A coalition is a row of n booleans: which cells of the grid are shown; every other cell shows the baseline. Masks travel
as booleans and become pixels on the device.
"""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from interactions.baselines import BASELINES, Baseline, Normalisation
from interactions.full_precision import full_precision
from interactions.grid import PatchGrid
from interactions.independence import refuse_dependent
from interactions.outputs import class_logits, is_out_of_memory, refuse_one_output, run
from interactions.own import FUNCTIONS, absent_of, named, refuse_mixing, shape_of, values_of
from interactions.segments import Segments
from interactions.settings import whole
from interactions.speed import Speed, as_speed, best_batch, in_turns, prepared
from interactions.tokens import DROP, TokenDrop
from interactions.values import VALUES, Features, Value

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class NonFiniteValueError(ValueError):
    """The model returned NaN or infinity."""


class PatchGame:
    """The game that a model plays on one or many images: v(T) of any coalition T of grid cells.

    Args:
        model: a module from normalised images B×C×H×W to logits B×K (or what `interactions.outputs.class_logits` can
            read as such); for `cosine`, anything that gives features. It is put into evaluation mode, and stays on its
            device.
        images: normalised, C×H×W or I×C×H×W, a tensor or an array.
        targets: class of each image, an int or I of them; unused by `cosine`.
        grid: the players: a `PatchGrid`, or `Segments` of one's own.
        value, baseline: names in `VALUES` and `BASELINES`, or functions like those there (`interactions.own`); or the
            baseline `drop`, which removes the tokens of absent cells (`interactions.tokens`).
        normalisation: how the pixels were normalised; `black` needs it.
        batch_size: coalitions in one forward pass, or as many more as make up for dropped tokens; found by itself
            (`tune`) when None. Out of memory halves it (`backed_off` tells) instead of ending the run.
        amp: "bfloat16", "float16" or None for float32; TF32 is off either way.
        speed: how the network runs: a name in `interactions.speed.WAYS`, or a `Speed`. (`interactions.speed.settle`
            finds the fastest way.)
        names: how errors call the images.

    Raises:
        ValueError: an unknown name, targets that do not fit the images or the model's classes; outputs that cannot be
            read; a model whose output for an image depends on its batch, or on chance: names the module; `drop` of a
            model whose tokens cannot be left out, on a grid that cuts its patches, or compiled.
        NonFiniteValueError: v is NaN or infinite; names the image.
    """

    def __init__(
        self,
        model: nn.Module,
        images: ArrayLike | Tensor,
        targets: ArrayLike | Tensor | None,
        grid: PatchGrid | Segments,
        value: str | Value = "log_odds",
        baseline: str | Baseline = "mean",
        *,
        normalisation: Normalisation | None = None,
        batch_size: int | None = None,
        amp: str | None = None,
        speed: str | Speed = "plain",
        names: Sequence[str] | None = None,
    ) -> None:
        value, baseline = named("value", value), named("baseline", baseline)
        check_names(value, baseline, amp)
        self.images_ICHW: Tensor
        self.absent_ICHW: Tensor
        first = next(iter(model.parameters()), None)
        images = images if isinstance(images, Tensor) else as_images(images, first)
        self.device = images.device if first is None else first.device
        self.grid, self.value, self.baseline, self.amp = grid, value, baseline, amp
        self.normalisation = normalisation or Normalisation()
        self.speed = as_speed(speed)
        self.eager = self.network = (Features(model) if value == "cosine" else model).eval()
        self.resting = [module for module in self.eager.modules() if not module.training]
        self.batch_size = None if batch_size is None else whole(batch_size, "batch_size")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give 1 or more, or None to have it found")
        self.backed_off = False
        self.on_batch: Callable[[int], object] | None = None
        """Called with the number of passes of each batch, for a progress bar."""
        self.typical = max(1, self.n_players // 2)
        """Cells of a coalition as most will be, by which passes with dropped tokens are tried."""
        self._hold(images, targets, names)
        self._refuse_dependent()
        self.tokens = self._find_tokens() if baseline == DROP else None
        self.run_as(self.speed)

    @property
    def n_players(self) -> int:
        return self.grid.n_players

    @property
    def n_images(self) -> int:
        return len(self.images_ICHW)

    def __call__(self, coalitions_BN: Tensor, image: Tensor | int = 0) -> Tensor:
        """v of each coalition (bool, B×n), float64 B on the device. `image` says whose: one index, or one a row (B).

        Raises:
            ValueError: what are no coalitions of this game's players; a model that was put into training mode.
        """
        if any(module.training for module in self.resting):
            raise ValueError("the model is in training mode, where v is random or the batch's: call its eval() first")
        coalitions_BN = torch.as_tensor(coalitions_BN)
        self._refuse_other_players(coalitions_BN)
        image_B = torch.as_tensor(image, device=coalitions_BN.device).expand(len(coalitions_BN))
        if len(coalitions_BN) == 0:
            return torch.zeros(0, dtype=torch.float64, device=self.device)
        if self.batch_size is None:
            self.batch_size, _ = self.tune()
        if self.tokens is not None:
            values_B = self._by_size(self.tokens, coalitions_BN, image_B)
        else:
            coalitions_BN, image_B = (x.to(self.device, non_blocking=True) for x in (coalitions_BN, image_B))
            values_B = self._in_batches(len(image_B), lambda rows: self._values(coalitions_BN[rows], image_B[rows]))
        self.passes += len(coalitions_BN)
        self._refuse_non_finite(values_B, image_B.to(self.device))
        return values_B

    def holding(
        self, images: Tensor, targets: ArrayLike | Tensor | None, names: Sequence[str] | None = None
    ) -> "PatchGame":
        """The same game on other images; it keeps this one's network, compiled or not, and batch size.

        Raises:
            ValueError: targets that do not fit the images or the model's classes.
        """
        game = copy.copy(self)
        game._hold(images, targets, names)
        return game

    def refuse_empty(self) -> None:
        """Raises ValueError where a coalition without cells has no value, so that it is told before time is spent."""
        if self.tokens is not None:
            self.tokens.refuse_empty()

    def of(self, image: int) -> "ImageGame":
        """The game on one of the images: coalitions in, values out."""
        return ImageGame(self, image)

    def run_as(self, speed: Speed) -> None:
        """Run the network in another way from now on.

        Raises:
            ValueError: compiled, under the baseline drop.
        """
        if speed.compiled and self.tokens is not None:
            raise ValueError("under the baseline drop batches come in many shapes: choose a speed without compilation")
        self.speed = speed
        self.images_ICHW, self.absent_ICHW = self._laid_out(self.images_ICHW), self._laid_out(self.absent_ICHW)
        two_BCHW = torch.stack([self.images_ICHW[0], self.absent_ICHW[0]])
        self.network, self.folds = prepared(self.eager, speed, two_BCHW, partial(self._logits, reduced=False))

    def run_like(self, other: "PatchGame") -> None:
        """Run the network as another game of the same model does from now on, in its very copy: to compile it once."""
        self.speed, self.network, self.folds = other.speed, other.network, other.folds
        self.images_ICHW, self.absent_ICHW = self._laid_out(self.images_ICHW), self._laid_out(self.absent_ICHW)

    def tune(self, sizes: Sequence[int] = (), allowed: float = math.inf) -> tuple[int, float]:
        """The batch size of most passes a second among `sizes`, found by so many passes; and how many those are."""
        return best_batch(self, sizes, allowed)

    def rate(self, size: int, turns: int = 2) -> float:
        """Passes a second in batches of that size."""
        return self.rows(size) / in_turns([partial(self.trial, size)], self.device, turns)[0]

    def trial(self, size: int) -> Tensor:
        """v of a batch of that size: the empty coalition and all cells in turns; where tokens are dropped, one of the
        typical number of cells. `trials` counts it, `passes` not."""
        rows = self.rows(size)
        self.trials += rows
        if self.tokens is not None:
            shown_BN = (torch.arange(self.n_players) < self.typical).expand(rows, -1)
            image_B = torch.zeros(rows, dtype=torch.long)
            return self._kept_values(self.tokens, shown_BN, image_B, self.typical, slice(None))
        image_B = torch.zeros(rows, dtype=torch.long, device=self.device)
        rows_BN = (torch.arange(rows, device=self.device) % 2 == 1)[:, None].expand(-1, self.n_players)
        return self._values(rows_BN, image_B)

    def rows(self, size: int) -> int:
        """Coalitions in a trial's batch of that size."""
        return size if self.tokens is None else self._room(size, self.tokens.share(self.typical))

    def double(self, model: nn.Module) -> "PatchGame":
        """The same game in float64, played by `model` (a float64 copy of this game's): the numerical reference."""
        game = copy.copy(self)
        game.images_ICHW, game.absent_ICHW = self.images_ICHW.double(), self.absent_ICHW.double()
        game.eager = game.network = Features(model) if self.value == "cosine" else model
        game.amp, game.speed, game.passes = None, Speed(), 0
        if self.value == "cosine":
            game.reference_I = game._outputs(game.network, game.images_ICHW)
        return game

    def _hold(self, images: Tensor, targets: ArrayLike | Tensor | None, names: Sequence[str] | None) -> None:
        images_ICHW = images if images.ndim == 4 else images[None]
        if images_ICHW.ndim != 4 or len(images_ICHW) == 0:
            raise ValueError(f"images are C×H×W, or I×C×H×W of at least one, got {shape_of(images)}")
        self.images_ICHW = self._laid_out(images_ICHW.to(self.device))
        self.absent_ICHW = absent_of(
            "mean" if self.baseline == DROP else self.baseline, self.images_ICHW, self.normalisation
        )
        self.names = list(names) if names is not None else [f"image {k}" for k in range(len(self.images_ICHW))]
        self.passes = self.trials = 0
        self.reference_I = self._reference(targets)

    def _reference(self, targets: ArrayLike | Tensor | None) -> Tensor:
        if self.value == "cosine":
            whole_IK = torch.cat([self._outputs(self.eager, image[None]) for image in self.images_ICHW])
            refuse_one_output(self.value, whole_IK.shape[1])
            return whole_IK
        if targets is None:
            raise ValueError(f"the value {self.value!r} needs a target class for each image")
        target_I = as_classes(targets).to(self.device)
        classes = self._outputs(self.eager, self.images_ICHW[:1]).shape[1]
        refuse_one_output(self.value, classes)
        if len(target_I) != self.n_images:
            raise ValueError(f"{len(target_I)} targets for {self.n_images} images: give one class for each")
        if not 0 <= int(target_I.min()) <= int(target_I.max()) < classes:
            raise ValueError(
                f"targets between {int(target_I.min())} and {int(target_I.max())} for a model of {classes} classes: "
                f"give classes in 0 to {classes - 1}"
            )
        return target_I

    def _in_batches(self, count: int, play: Callable[[slice], Tensor], share: float = 1.0) -> Tensor:
        """The values of `count` rows, batch by batch; share: of a whole pass that one of them costs."""
        parts, start = [], 0
        while start < count:
            rows = slice(start, start + self._room(self.batch_size, share))  # type: ignore[arg-type]
            try:
                parts.append(play(rows))
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size, self.backed_off = self.batch_size // 2, True  # type: ignore[operator]
                continue
            start += len(parts[-1])
            if self.on_batch is not None:
                self.on_batch(len(parts[-1]))
        return torch.cat(parts)

    @staticmethod
    def _room(size: int, share: float) -> int:
        """Rows that take no more of the device than so many whole passes."""
        return max(1, int(size / share))

    def _by_size(self, tokens: TokenDrop, coalitions_BN: Tensor, image_B: Tensor) -> Tensor:
        """Values of coalitions whose absent cells are dropped: those of one size are as long, and share batches."""
        values_B = torch.empty(len(image_B), dtype=torch.float64, device=self.device)
        coalitions_BN, image_B = coalitions_BN.cpu(), image_B.cpu()  # what a batch needs is told without waiting
        size_B = coalitions_BN.sum(1)
        for cells in size_B.unique().tolist():
            if cells == 0:
                self.refuse_empty()
            row_R = (size_B == cells).nonzero().flatten()
            play = partial(self._kept_values, tokens, coalitions_BN[row_R], image_B[row_R], cells)
            values_B[row_R.to(self.device)] = self._in_batches(len(row_R), play, tokens.share(cells))
        return values_B

    def _kept_values(
        self, tokens: TokenDrop, coalitions_RN: Tensor, image_R: Tensor, cells: int, rows: slice
    ) -> Tensor:
        used, place_B = image_R[rows].unique(return_inverse=True)
        used, place_B, image_B = (x.to(self.device, non_blocking=True) for x in (used, place_B, image_R[rows]))
        keep_BK = tokens.kept(coalitions_RN[rows].to(self.device, non_blocking=True), cells)
        with tokens.keeping(self.network, keep_BK, place_B):
            outputs_BK = self._outputs(self.network, self.images_ICHW[used], rows=len(place_B))
        return values_of(self.value, outputs_BK, self.reference_I[image_B])

    def _find_tokens(self) -> TokenDrop:
        """Raises ValueError for a model whose tokens cannot be left out."""
        if not isinstance(self.grid, PatchGrid):
            raise ValueError("the baseline drop removes whole patches: choose a grid, or another baseline for segments")
        forward = partial(self._outputs, self.eager, reduced=False)
        image_CHW = self.images_ICHW[0]
        tokens = TokenDrop(self.eager, forward, image_CHW, self.grid.side)
        shown_N = torch.randperm(self.n_players, generator=torch.Generator().manual_seed(0)) < self.n_players // 2
        shown_1HW = self.grid.pixels(shown_N[None].to(self.device), *image_CHW.shape[1:])[0]
        tokens.check(self.eager, forward, image_CHW, shown_N.to(self.device), image_CHW.where(shown_1HW, 1 - image_CHW))
        return tokens

    def _values(self, coalitions_BN: Tensor, image_B: Tensor) -> Tensor:
        rows = len(coalitions_BN)
        if self.speed.compiled and rows < (self.batch_size or rows):
            # A compiled model is built for one batch shape: fill the last batch with copies of its first row.
            padding = self.batch_size - rows  # type: ignore[operator]
            coalitions_BN = torch.cat([coalitions_BN, coalitions_BN[:1].expand(padding, -1)])
            image_B = torch.cat([image_B, image_B[:1].expand(padding)])
        outputs_BK = self._outputs(self.network, self._pictures(coalitions_BN, image_B))
        return values_of(self.value, outputs_BK, self.reference_I[image_B])[:rows]

    def _pictures(self, coalitions_BN: Tensor, image_B: Tensor) -> Tensor:
        """What the network is shown, B×C×H×W."""
        # In channels-last layout, a mask of one channel would make `where` three times slower.
        channels, height, width = self.images_ICHW.shape[1:]
        shown_BCHW = self.grid.pixels(coalitions_BN, height, width, channels if self.speed.channels_last else 1)
        if self.n_images == 1:
            return torch.where(shown_BCHW, self.images_ICHW, self.absent_ICHW)
        if image_B.device.type == "cpu" and bool((image_B == image_B[0]).all()):  # elsewhere, to ask is to wait
            image_B = image_B[:1]
        return torch.where(shown_BCHW, self.images_ICHW[image_B], self.absent_ICHW[image_B])

    @torch.inference_mode()
    def _outputs(self, network: nn.Module, x_BCHW: Tensor, reduced: bool = True, rows: int | None = None) -> Tensor:
        return self._logits(network, x_BCHW, reduced, rows)

    def _logits(self, network: nn.Module, x_BCHW: Tensor, reduced: bool, rows: int | None = None) -> Tensor:
        amp = AMP_DTYPES.get(self.amp or "") if reduced else None
        # Only where rows are not images: errors name the modules of what is run, which a partial does not show.
        forward = network if rows is None or not isinstance(network, Features) else partial(network, rows=rows)
        with full_precision(), torch.autocast(self.device.type, amp, amp is not None):
            return class_logits(run(forward, self._laid_out(x_BCHW)), len(x_BCHW) if rows is None else rows).double()

    def _laid_out(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.contiguous(memory_format=self.speed.layout)

    def _refuse_dependent(self) -> None:
        """Raises ValueError for a model whose output is no matter of the image alone; four images at once."""
        try:
            forward = partial(self._outputs, self.eager, reduced=False)
            model = self.eager.model if isinstance(self.eager, Features) else self.eager
            refuse_dependent(model, forward, self.images_ICHW[0], self.absent_ICHW[0])
            two_BCHW = torch.stack([self.images_ICHW[0], self.absent_ICHW[0]])
            refuse_mixing(self.value, partial(forward, two_BCHW), self.reference_I[:1])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.batch_size, self.backed_off = 1, True  # where four do not fit, none will meet another

    def _refuse_other_players(self, coalitions_BN: Tensor) -> None:
        if coalitions_BN.dtype != torch.bool or coalitions_BN.shape[1:] != (self.n_players,):
            raise ValueError(
                f"coalitions are rows of {self.n_players} booleans, one for each player, got "
                f"{shape_of(coalitions_BN)} of {str(coalitions_BN.dtype).removeprefix('torch.')}"
            )

    def _refuse_non_finite(self, values_B: Tensor, image_B: Tensor) -> None:
        broken_B = ~values_B.isfinite()
        if bool(broken_B.any()):
            image = int(image_B[broken_B][0])
            raise NonFiniteValueError(
                f"the model returned {float(values_B[broken_B][0])} for {self.names[image]} ({int(broken_B.sum())} of "
                f"{len(values_B)} coalitions): check the weights, or use float32 instead of reduced precision"
            )


class ImageGame:
    """One image of a `PatchGame`, as a plain function of coalitions."""

    def __init__(self, game: PatchGame, image: int) -> None:
        self.game, self.image = game, image
        self.n_players = game.n_players

    def __call__(self, coalitions_BN: Tensor) -> Tensor:
        return self.game(coalitions_BN, self.image)


def as_images(images: ArrayLike, like: Tensor | None) -> Tensor:
    """An array of images as a tensor of the model's type. Raises ValueError for one of whole numbers."""
    array = np.asarray(images)
    if array.dtype.kind in "iub":
        raise ValueError(
            f"the images are {array.dtype}: bytes are no normalised pixels; divide by 255, and normalise them as the "
            "model's were"
        )
    return torch.as_tensor(array, dtype=torch.float32 if like is None else like.dtype)


def as_classes(targets: ArrayLike | Tensor) -> Tensor:
    """Class numbers as a tensor of integers.

    Raises:
        ValueError: what is no whole number.
    """
    given = targets.detach().cpu() if isinstance(targets, Tensor) else np.asarray(targets)
    return torch.tensor([whole(number, "a target class") for number in np.ravel(given).tolist()], dtype=torch.long)


def check_names(value: str, baseline: str, amp: str | None) -> None:
    """Raises ValueError for a value, a baseline or a precision that does not exist."""
    for kind, name, known in (("value", value, VALUES), ("baseline", baseline, (*BASELINES, DROP))):
        if name not in (*known, *FUNCTIONS[kind]):
            raise ValueError(f"unknown {kind} {name!r}: choose one of {', '.join(known)}")
    if amp is not None and amp not in AMP_DTYPES:
        raise ValueError(f"unknown precision {amp!r}: choose one of {', '.join(AMP_DTYPES)}, or none for float32")
