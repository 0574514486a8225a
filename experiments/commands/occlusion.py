"""`a2mim occlusion`: accuracy against the share of dropped patches, and under shuffled ones, of one model."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from experiments.measuring.inputs import Input
from experiments.options import Images, Machine, Network, refuse_idle
from interactions.settings import OcclusionSettings

if TYPE_CHECKING:
    from interactions.occlusion import Occlusion


@dataclass(frozen=True, kw_only=True)
class Settings(Machine, Images, Network):
    """Measure how accurate a model stays when patches of the images are dropped, or shuffled.

    Writes occlusion.csv (one row per kind of patches and share dropped: top-1 with its interval), shuffling.csv (one
    row per cut), occlusion.png, run.json, and as Parquet whether the model was right on every picture. Random patches
    depend on the seed and the image alone, so all models lose the same ones; --saliency RUN drops the patches that were
    salient in another run. The same command again goes on with an interrupted run; torchrun shares the images.

    For example:
        a2mim occlusion resnet50 --data imagenet/val --out runs/resnet50-occlusion
        a2mim occlusion vit_small_patch16_224 --data val.tar --saliency class_attention --out runs/vit-occlusion
        a2mim occlusion resnet50 --data val.tar --saliency runs/vit-occlusion --out runs/resnet50-same-patches
        a2mim occlusion resnet50 --data val.tar --masking before_normalisation --kinds random --out runs/black
    """

    model: tyro.conf.Positional[str]
    """A timm model, a Python factory module:function, or auto for the timm model that the weights' file is of."""
    out: Path
    """Folder of the run."""
    class_map: str | None = None
    """Text file of class names, one a line, whose line numbers are the labels."""
    input: Input = field(default_factory=Input)
    measure: OcclusionSettings = field(default_factory=OcclusionSettings)

    def check(self) -> None:
        """Raises ValueError for what would have no effect beside the rest."""
        if set(self.measure.kinds) <= {"random"}:
            refuse_idle(self.measure, "--kinds salient or non_salient", "saliency")


def run(settings: Settings) -> None:
    """Measure, draw, and say what was written."""
    import figures.occlusion  # noqa: F401  what cannot be drawn is found out before it is measured
    from experiments.datasets import known_classes
    from experiments.machine import is_first, pick_device
    from experiments.measuring.inputs import open_model
    from experiments.measuring.opening import Opened, images_of, own_device, warn_about_labels, with_own_functions
    from interactions.occlusion import measure_occlusion

    measure = asdict(with_own_functions(settings.measure))
    model, config = open_model(settings)
    classes = getattr(model, "num_classes", settings.num_classes)  # of an own model what was typed
    if classes == 0:
        raise ValueError(f"'{settings.weights}' has no classifier, so it has no accuracy: fine-tune it first")
    known = known_classes(model, settings.weights)
    data = images_of(settings, config, class_map=settings.class_map, model_classes=classes, known=known)
    if not data.labelled:
        raise ValueError(
            f"the images in '{settings.data}' have no labels, which accuracy needs: "
            "put those of each class into a folder of its own"
        )
    if is_first():
        warn_about_labels(model, data, "--class-map FILE")
    opened = Opened(model.to(pick_device(own_device(settings.device))), data, config)
    measured = measure_occlusion(
        opened.model,
        data,
        normalisation=opened.normalisation,
        num_workers=0 if data.streamed else settings.num_workers,
        **opened.of_run(settings),
        **measure | {"shuffle": measure["shuffle"] and not data.streamed},
    )
    if is_first():
        draw(measured)
        report(measured)


def draw(measured: "Occlusion") -> None:
    """occlusion.png, from the tables that were written."""
    from experiments.measuring.inputs import assumptions, images_in_words
    from figures.occlusion import draw_occlusion

    record, settings, name = measured.record, measured.settings, measured.record["model"]["name"]
    caption = (
        f"{images_in_words(record)}, in {settings['grid']}×{settings['grid']} cells; "
        f"{shown(settings['baseline'], settings['masking'])}. "
    )
    if {"salient", "non_salient"} & set(settings["kinds"]):
        source = record["saliency_from"] or settings["saliency"].replace("_", " ")
        if unlike := record.get("saliency_unlike"):
            source = f"{source}, whose images were shown otherwise ({', '.join(unlike)})"
        caption += f"Saliency: {source}. "
    caption = f"{caption}{assumptions(record['data'].get('transform', {}))}".strip()
    draw_occlusion(
        {name: measured.folder / "occlusion.csv"},
        measured.folder / "occlusion.png",
        {name: measured.folder / "shuffling.csv"} if record["shuffle_grids"] else None,
        title=name,
        caption=caption,
    )


def shown(baseline: str, masking: str) -> str:
    """What becomes of dropped cells, in words."""
    from figures.words import baseline_in_words

    if baseline == "drop":
        return "the tokens of dropped ones are removed, nothing is painted"
    return f"dropped ones show {baseline_in_words(baseline)} ({masking.replace('_', ' ')})"


def report(measured: "Occlusion") -> None:
    """Accuracy by share and kind, and what was left out, for the terminal."""
    import pandas as pd

    from experiments.records import tell_skipped

    record = measured.record
    table = pd.read_csv(measured.folder / "occlusion.csv")
    wide = table.pivot(index=["dropped", "share"], columns="kind", values="top1")[list(measured.settings["kinds"])]
    print(wide.reset_index().to_string(index=False, float_format="{:.3g}".format))
    cuts = pd.read_csv(measured.folder / "shuffling.csv")
    if len(cuts):
        print("shuffled: " + ", ".join(f"{one.grid}×{one.grid} {one.top1:.3g}" for one in cuts.itertuples()))
    tell_skipped(record)
    print(
        f"top-1 in %, {len(record['images'])} images, {record['seconds']:.0f} s; "
        f"wrote occlusion.png, occlusion.csv, shuffling.csv, run.json into {measured.folder}"
    )
