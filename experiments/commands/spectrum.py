"""`a2mim spectrum`: spatial frequencies and variance of a model's feature maps, block by block, over images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from a2mim.bounds import Count, Natural
from experiments.measuring.inputs import Input
from experiments.options import Images, Machine, Network

if TYPE_CHECKING:
    from interactions.spectrum import Spectrum


@dataclass(frozen=True, kw_only=True)
class Settings(Machine, Images, Network):
    """Measure the spatial frequencies and the variance of a model's feature maps, block by block.

    Attention and MLP of a transformer count as blocks of their own, as do a CNN's residual blocks. Neither labels nor a
    classifier are needed. Writes spectrum.csv (relative log-amplitude of each block and frequency), variance.csv, both
    with intervals over images, their figures, run.json, and every image's numbers as Parquet, into one folder. The same
    command again goes on with an interrupted run; torchrun shares the images between processes.

    For example:
        a2mim spectrum resnet50 --data imagenet/val --out runs/resnet50-spectrum
        a2mim spectrum auto --weights mae.pth --data val.tar --images 200 --out runs/mae-spectrum
        a2mim spectrum vit_tiny_patch16_224 --weights random --data photos --out runs/random-spectrum
    """

    model: tyro.conf.Positional[str]
    """A timm model, a Python factory module:function, or auto for the timm model that the weights' file is of."""
    out: Path
    """Folder of the run."""
    images: Count | None = 1000
    """At most so many images; all where it is None."""
    shuffle: bool = True
    """Take images in a random order that the seed decides, not in the data set's own."""
    seed: Natural = 0
    """Of the images drawn."""
    unit_images: Count = 32
    """Images measured and written together; what an interruption loses at most."""
    input: Input = field(default_factory=Input)


def run(settings: Settings) -> None:
    """Measure, draw, and say what was written."""
    import figures.spectrum  # noqa: F401  what cannot be drawn is found out before it is measured
    from experiments.machine import is_first, pick_device
    from experiments.measuring.inputs import open_model
    from experiments.measuring.opening import Opened, images_of, own_device
    from interactions.spectrum import measure_spectrum

    model, config = open_model(settings)
    device = pick_device(own_device(settings.device))
    data = images_of(settings, config, labels_needed=False)
    opened = Opened(model.to(device), data, config)
    measured = measure_spectrum(
        opened.model,
        data,
        images=settings.images,
        shuffle=settings.shuffle and not data.streamed,
        seed=settings.seed,
        unit_images=settings.unit_images,
        num_workers=0 if data.streamed else settings.num_workers,
        **opened.of_run(settings),
    )
    if is_first():
        drawn = draw(measured)
        report(measured, drawn)


def draw(measured: "Spectrum") -> list[str]:
    """spectrum.png and variance.png, from the tables that were written; the names of those with anything to show."""
    import pandas as pd

    from experiments.measuring.inputs import assumptions, images_in_words
    from figures.spectrum import draw_spectrum, draw_variance

    record = measured.record
    caption = f"{images_in_words(record)}. {assumptions(record['data'].get('transform', {}))}".strip()
    drawn = []
    for name, figure in (("spectrum", draw_spectrum), ("variance", draw_variance)):
        table = pd.read_csv(measured.folder / f"{name}.csv")
        if len(table):
            figure({record["model"]["name"]: table}, measured.folder / f"{name}.png", caption=caption)
            drawn.append(f"{name}.png")
    return drawn


def report(measured: "Spectrum", drawn: list[str]) -> None:
    """Each block's numbers and what was left out, for the terminal."""
    import pandas as pd

    from experiments.records import tell_skipped

    record = measured.record
    spectrum, variance = (pd.read_csv(measured.folder / f"{name}.csv") for name in ("spectrum", "variance"))
    highest = spectrum.groupby("block").tail(1).set_index("block")[["frequency", "log_amplitude"]]
    table = variance.set_index("block")[["name", "kind", "depth", "variance"]].join(highest)
    print(table.to_string(float_format="{:.3g}".format))
    for one in record["left_out"]:
        print(f"left out {one['name']}: {one['reason']}")
    tell_skipped(record)
    files = ", ".join([*drawn, "spectrum.csv", "variance.csv", "run.json"])
    print(f"{len(record['images'])} images, {record['seconds']:.0f} s; wrote {files} into {measured.folder}")
