"""`a2mim reconstruct`: what a masked-image network predicts of images that are partly hidden."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from a2mim.bounds import Count, Natural, Pixels, Share
from experiments.help import FILE

if TYPE_CHECKING:
    from experiments.training.reconstruction import Network


@dataclass(frozen=True)
class Settings:
    """Draw images, what a masked-image network sees of them and what it predicts, with their spectra.

    A row for each image: original, masked, predicted, composite (predicted where masked), and the log magnitude of the
    Fourier transform of each. Writes the figure, the pictures beside it (.npz) and where all of it came from (.json).

    The checkpoint is the folder of a run of `a2mim pretrain` by a2mim, simmim, mae or spark, or a released file that
    has its decoder: MAE (also of Hugging Face, and on Hiera), SimMIM, OpenMixup's A2MIM and SimMIM, SparK, FCMAE.

    For example:
        a2mim reconstruct runs/a2mim-resnet50 --data imagenet/val --out reconstruction.png
        a2mim reconstruct mae_visualize_vit_large.pth --data photos --norm-pix no --out mae.pdf
        a2mim reconstruct runs/simmim --data photos --mask-ratio 0.8 --seed 3 --count 4 --best --out simmim.png
    """

    checkpoint: tyro.conf.Positional[Path]
    """The folder of a pre-training run, or a checkpoint file with a decoder."""
    data: str
    """A folder or a .tar of images, or timm's name of a data set, such as torch/cifar10."""
    out: Annotated[Path, FILE] = Path("reconstruction.png")
    """The figure: .png, .pdf or .svg."""
    count: Count = 8
    """Images to draw, evenly spaced through the data set."""
    mask_ratio: Share | None = None
    """Part of the image that is masked, instead of that of the training."""
    mask_cell: Count | None = None
    """Side of a mask cell in pixels, instead of that of the training."""
    strategy: Literal["random", "blockwise"] | None = None
    """How cells are chosen, instead of how they were in training (a2mim and simmim)."""
    seed: Natural = 0
    """Which cells are masked."""
    norm_pix: Literal["auto", "yes", "no"] = "auto"
    """MAE: whether patches normalised by themselves are predicted, which auto reads off runs, and off files that keep
    their command line. They are drawn with the mean and deviation of the true patch, so that the picture knows those
    of hidden pixels; `no` draws them as they are."""
    set: tuple[str, ...] = ()
    """Further settings of the method that a file does not tell, name=value, such as decoder_heads=8 mask_at=3."""
    image_size: Pixels | None = None
    """Side of the images in pixels, instead of that of the training."""
    best: bool = False
    """Of a run the best saved state, instead of the latest."""
    trust_factory: bool = False
    """Run the code that a run's record names as its network (a factory module:function), after saying what it is."""
    data_root: str | None = None
    """Where a data set that timm names is kept."""
    split: str = "validation"
    """The part to read, where a folder or tar is divided into parts such as train and val; `.` is all of it."""
    device: str = "auto"
    """cpu, cuda ...; auto takes the accelerator when there is one."""


def run(settings: Settings) -> None:
    """Load, mask, predict, draw, and write the figure, the pictures and the record."""
    from a2mim.checkpoints.read import split_copy
    from a2mim.runs import write_arrays, write_json
    from experiments.datasets import evaluation_transform, open_images
    from experiments.machine import pick_device, provenance
    from experiments.outputs import claim
    from experiments.training.reconstruction import chosen, described, open_network, readable, reconstruct, settings_of
    from figures.reconstruction import draw_reconstruction
    from figures.style import check_suffix

    out, device = check_suffix(settings.out), pick_device(settings.device)
    claim((out, out.with_suffix(".npz"), out.with_suffix(".json")), [split_copy(settings.checkpoint)[0]])
    refuse_pictures_of(settings.data, out)
    network = open_network(
        settings.checkpoint,
        method_settings(settings),
        settings.image_size,
        settings.best,
        settings.trust_factory,
    )
    data = open_images(
        settings.data,
        evaluation_transform(transform_of(network)),
        root=settings.data_root,
        split=settings.split,
        labels_needed=False,
    )
    indices, images = readable(data, chosen(data, settings.count))
    network.method.to(device)
    pictures = reconstruct(network, images.to(device), settings.seed)
    caption, note = described(network, settings.seed)
    draw_reconstruction(
        **{name: x.transpose(0, 2, 3, 1) for name, x in pictures.items()},
        path=out,
        title=network.title,
        caption=f"{caption} {len(indices)} of {len(data):,} images of {Path(settings.data).name}.",
        note=note,
    )

    write_arrays(out.with_suffix(".npz"), pictures)
    mean, std = network.pixels
    record = {
        "command": "reconstruct",
        **provenance(settings, device),
        "network": {**network.about, **settings_of(network)},
        "data": {
            "name": Path(settings.data).name,
            "images": [{"index": index, "name": data.names[index] if data.names else None} for index in indices],
            "of": len(data),
            "skipped": data.images.reports.skipped(),
            "size": network.image_size,
            "mean": mean,
            "std": std,
        },
        "caption": caption,
        "note": note,
        "pictures": out.with_suffix(".npz").name,
    }
    write_json(out.with_suffix(".json"), record)
    print(f"{network.title}\n{caption}" + (f"\nnote: {note}" if note else ""))
    print(f"wrote {out}, {out.with_suffix('.npz')}, {out.with_suffix('.json')}")


def refuse_pictures_of(data: str, out: Path) -> None:
    """Raise ValueError where the figure would take the place of a file of the data."""
    if out.exists() and out.resolve().is_relative_to(Path(data).resolve()):
        raise ValueError(f"{out} lies in --data, and would be overwritten: give the figure another name with --out")


def method_settings(settings: Settings) -> dict[str, Any]:
    """--set, and the flags that were given, under the names of the methods' settings."""
    from a2mim.plain import pairs

    flags = {
        "mask_ratio": settings.mask_ratio,
        "mask_cell": settings.mask_cell,
        "mask_strategy": settings.strategy,
        "normalised_target": {"auto": None, "yes": True, "no": False}[settings.norm_pix],
    }
    return {**pairs(settings.set), **{name: value for name, value in flags.items() if value is not None}}


def transform_of(network: "Network") -> dict[str, Any]:
    """The data configuration that shows the network whole images: the shorter side resized, the centre taken."""
    mean, std = network.pixels
    return {
        "input_size": (3, network.image_size, network.image_size),
        "mean": mean,
        "std": std,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
    }
