"""A profile: the interaction strength of one model at every order, over the images of a data set, in a folder.

    profile = profile_model(model, dataset, out="runs/resnet50", grid=14, precision=0.1)
    profile.strength()          # one row per order: A, J, corrected, noise-free, each with its interval

Images and passes are taken in rounds until the curve is as narrow as asked (`interactions.precision`), or in a fixed
number. Images are measured in work units of a few. All coalitions of a unit and order share batches, batches never
cross units, and every image and order has a random stream of its own: so an interrupted run goes on where it was and
ends with the same numbers, and the processes that torchrun starts share the units.
"""

import os
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)

from interactions.ahead import read_ahead
from interactions.asked import checked
from interactions.baselines import Normalisation
from interactions.grid import PatchGrid
from interactions.measured import Profile, load_profile
from interactions.own import with_names
from interactions.profiling import Run
from interactions.published import with_published
from interactions.runs.record import NOTHING, Material
from interactions.runs.units import carry_out
from interactions.segments import Segments
from interactions.selection import Images
from interactions.settings import ProfileSettings, settled

__all__ = ["Profile", "checked", "load_profile", "profile_model"]


def profile_model(
    model: nn.Module,
    dataset: Images | DataLoader[Any],
    *,
    out: str | Path | None,
    grid: PatchGrid | Segments | int = 14,
    pairs: str | ArrayLike | Tensor = "near",
    orders: Sequence[int] | None = None,
    normalisation: Normalisation | None = None,
    names: Sequence[str] | None = None,
    model_name: str = "",
    data_name: str = "",
    transform: Mapping[str, Any] = NOTHING,
    about: Mapping[str, Any] = NOTHING,
    accompany: Callable[[Path], object] | None = None,
    num_workers: int = 0,
    progress: bool = True,
    dry_run: bool = False,
    **settings: Any,
) -> Profile:
    """Measure a model over the images of a data set; go on with the measurement if `out` holds it unfinished.

    Started by torchrun, every process calls this with the same arguments, and each measures its share of the images.

    Args:
        model: from normalised images B×C×H×W to logits B×K, on the device where it is to run. It is put into
            evaluation mode.
        dataset: image number -> (normalised image C×H×W, label); None or a negative label where there is none. All
            images of one size, and the same pixels at every reading. What cannot be read is skipped. Of a DataLoader
            its data set is taken.
        out: folder of the run: run.json, images/, pairs/, strength.csv, middle_mass.csv; None for one that is gone with
            the profile.
        grid: cells along one side; or the regions of a label map, the same in every image.
        pairs: which are measured: near (within `radius`; of regions those that touch), all, or a list P×2.
        orders: numbers of context cells, in place of `ratios`.
        normalisation: mean and std by which the data set's pixels were normalised (ImageNet's when None).
        names: of the images, for messages and tables.
        model_name, data_name: for the record.
        transform: how the data set makes its images, ready for JSON; a run with another is not gone on with.
        about: what else to record of this start, ready for JSON, such as the commit of the source tree.
        accompany: writes into the folder what belongs to the run, such as a classifier; called when the run begins.
        num_workers: threads that read the next images meanwhile; the data set has to bear several at once.
        progress: show bars.
        dry_run: choose images and speed, raise `interactions.forecast.DryRun` with what the run will take, and write
            nothing.
        settings: the fields of `ProfileSettings`: images, target, ratios, radius, budget, design, seed, … Where the
            design is published, those that are not given are the protocol's (`interactions.published`). `value` and
            `baseline` may also be functions (`interactions.own`).

    Raises:
        ValueError: impossible settings; a folder that holds a run with others, or at which another process is at work;
            no usable image; a DataLoader of a part of its data set; a label outside the model's classes.
        NonFiniteValueError: the model returned NaN or infinity; names the image.
        OSError: a folder that cannot be written to, a full disk.
    """
    settings = with_names({"grid": grid, "pairs": pairs, **settings}, orders)
    images: Any = data_of(dataset) if isinstance(dataset, DataLoader) else dataset
    own = None if out is not None else temporary()  # goes with the profile, and at once where none is made
    folder = Path(own.name if out is None else out)  # type: ignore[union-attr]
    wanted = settled(ProfileSettings(**with_published(settings))).resolved()
    if wanted.of == "difference":
        raise ValueError('of="difference" speaks of two models: give both to interactions.pair.profile_pair')
    material = Material.of(model, images, names, model_name, data_name, transform)
    with read_ahead(images, wanted, num_workers) as ahead:
        run = Run(replace(material, dataset=ahead), folder, wanted, normalisation or Normalisation(), progress)
        carry_out(folder, partial(run.begin, about, accompany, dry_run), run.measure_units, run.proceed)
    profile = load_profile(folder)
    if own is not None:
        weakref.finalize(profile, own.cleanup)
    return profile


def data_of(loader: DataLoader[Any]) -> Any:
    """The data set of a loader. Raises ValueError for one that hands out a part of it, or changes its images as it
    makes batches of them: neither would be seen."""
    batches, dataset = loader.batch_sampler, cast(Any, loader.dataset)
    # Beside a batch sampler of one's own a loader holds a sampler that it does not use.
    sampler = batches.sampler if type(batches) is BatchSampler else batches or loader.sampler
    whole = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(dataset)
    )
    if not whole:
        raise ValueError(
            f"the loader hands out images by a {type(sampler).__name__}, and its data set holds others, too: give the "
            "data set itself, or a torch.utils.data.Subset of it"
        )
    if loader.collate_fn not in (default_collate, default_convert):
        raise ValueError(
            "the loader makes batches by a collate_fn of its own, which images would be measured without: give a data "
            "set whose images are as the model takes them"
        )
    return dataset


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A new folder. Raises ValueError for one of several processes, which have to share a folder."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("several processes measure into one folder: name it (out=…)")
    return tempfile.TemporaryDirectory(prefix="profile-", ignore_cleanup_errors=True)
