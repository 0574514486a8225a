"""`a2mim profile`: interaction strength against order, of one model over the images of a data set."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from a2mim.bounds import Count
from experiments.measuring.inputs import Input
from experiments.options import Images, Machine, Network, refuse_idle
from interactions.published import INPUT, PUBLISHED, protocol_in_words, with_published
from interactions.settings import ProfileSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interactions.profile import Profile


@dataclass(frozen=True, kw_only=True)
class Settings(Machine, Images, Network):
    """Measure how strongly the patches of images interact under a model, at every order.

    Writes strength.csv (one row per order, each measure with its interval), middle_mass.csv, strength.png, run.json
    (all settings, versions, images, passes, seconds), and every image and pair as Parquet, into one folder. Images, and
    the passes of each order, are taken until every J is known to --precision, the half width of its 95 % interval;
    --images and --budget give a fixed design instead. The same command again goes on with an interrupted run, with
    more --images or a finer --precision it extends a finished one; torchrun shares the images between processes:

        torchrun --nproc-per-node 8 --no-python a2mim profile ...

    For example:
        a2mim profile resnet50 --data imagenet/val --out runs/resnet50
        a2mim profile resnet50 --data imagenet/val --precision 0.05 --minutes 600 --out runs/resnet50-fine
        a2mim profile vit_small_patch16_224 --weights vit.pth --data val.tar --images 500 --only-correct --out runs/vit
        a2mim profile resnet50 --weights random --data photos --target 281 --image-size 112 --grid 7 --out runs/random
        a2mim profile my_models:make --weights my.safetensors --data photos --value cosine --out runs/mine
        a2mim profile my_models:make --weights my.safetensors --data photos --baseline my_models:grey --out runs/grey
        a2mim profile auto --weights mae.pth --data val.tar --probe train.tar --out runs/mae
        a2mim profile vit_small_patch16_224 --data photos --target runs/resnet50 --out runs/vit-same-classes
        a2mim profile resnet50 convnext_tiny --data val.tar --precision 0.1 --of difference --out runs/pair
        a2mim profile runs/a2mim-vit --checkpoints all --data val.tar --value cosine --out runs/a2mim-vit-course
    """

    model: tyro.conf.Positional[str]
    """A timm model, a Python factory module:function, or auto for the timm model that the weights' file is of; with
    --checkpoints, the folder of a training run."""
    out: Path
    """Folder of the run."""
    other: tyro.conf.Positional[str] = ""
    """A second model, measured on the same images: two folders in --out, each a usual run, and their comparison."""
    other_weights: str = ""
    """Of the second model (left out: as for the first)."""
    checkpoints: tuple[str, ...] = ()
    """Measure the weights that a training run kept on the way (`--keep-states`): all, or those after these steps. Each
    is a usual run in a folder of --out, over the same images; beside them course.csv and course.png. --minutes are
    those of each."""
    trust_factory: bool = False
    """With --checkpoints: run the code that the training's record names as its network (a factory module:function),
    after saying what it is."""
    probe: str = ""
    """Labelled training images (a folder, a .tar, timm's name of a data set): a checkpoint without a classifier gets a
    linear one, fitted to them in the size, crop and normalisation of the measured images, and kept in the run's folder.
    --value cosine needs none."""
    probe_epochs: Count = 100
    """Passes over the features of the probe's images."""
    class_map: str | None = None
    """Text file of class names, one a line, whose line numbers are the labels."""
    input: Input = field(default_factory=Input)
    measure: Annotated[ProfileSettings, tyro.conf.arg(name="")] = field(default_factory=ProfileSettings)

    def check(self) -> None:
        """Raises ValueError for what would have no effect beside the rest."""
        if not self.probe:
            refuse_idle(self, "--probe", "probe_epochs")
        if not self.checkpoints:
            refuse_idle(self, "--checkpoints", "trust_factory")
        if self.measure.design != PUBLISHED:
            refuse_idle(self.measure, "--design published", "published_pairs")
        if self.measure.resolved().precision is None:
            refuse_idle(self.measure, "a precision (--images and --budget fix the passes)", "relative")
        if isinstance(self.measure.grid, str) or self.measure.pairs != "near":
            refuse_idle(self.measure, "cells along one side as --grid, and --pairs near", "radius")


def usual(settings: Settings) -> Settings | None:
    """The defaults of the published design, which what is typed beside it changes; None for another design."""
    if settings.measure.design != PUBLISHED:
        return None
    measure = with_published({"design": PUBLISHED, "published_pairs": settings.measure.published_pairs})
    made = Input(INPUT["size"][0], INPUT["crop_pct"], INPUT["interpolation"], tuple(INPUT["mean"]), tuple(INPUT["std"]))
    return replace(settings, measure=ProfileSettings(**measure), input=made)


def run(settings: Settings) -> None:
    """Measure, draw, and say what was written."""
    import figures.curves  # noqa: F401  what cannot be drawn is found out before it is measured
    from experiments.machine import is_first
    from experiments.measuring.opening import profiled, with_own_functions
    from experiments.measuring.players import with_own_players
    from interactions.asked import checked

    settings = replace(settings, measure=with_own_players(with_own_functions(settings.measure)))
    checked(settings.measure.resolved())
    if settings.checkpoints:
        from experiments.measuring.course import run_course

        return run_course(settings, draw)
    if settings.other or settings.other_weights or settings.measure.of == "difference":
        from experiments.measuring.pairs import run_pair

        return run_pair(settings, draw)
    profile = profiled(settings)
    if is_first():
        draw(profile)
        report(profile)


def draw(profile: "Profile") -> None:
    """strength.png, from the table that was written."""
    from experiments.measuring.inputs import assumptions, images_in_words
    from experiments.records import sampled
    from figures.curves import draw_strength
    from figures.game import UNUSUAL
    from figures.runs import Run, alike, ground_words, unit_words
    from figures.words import baseline_in_words
    from interactions import levels

    record, settings = profile.record, profile.settings
    assumed = assumptions(record["data"].get("transform", {}))
    words = [alike([Run(profile.folder, "", "", record)], UNUSUAL), levels.in_words(record), sampled(record)]
    caption = (
        f"{images_in_words(record)}. "
        f"{ground_words(record)}, baseline {baseline_in_words(settings['baseline'])}, {record['passes']:,} passes. "
        + " ".join(filter(None, [*words, cut(record), protocol(record), assumed]))
    ).strip()
    draw_strength(
        profile.folder / "strength.csv",
        profile.folder / "strength.png",
        title=record["model"]["name"],
        caption=caption,
        unit=unit_words(record),
    )


def cut(record: "Mapping[str, Any]") -> str:
    """How narrow the curve got, where the time was over before it was as narrow as asked; nothing of another run."""
    told = record.get("ended") == "minutes" and "reached" in record
    # The width that a difference was asked for is that of another run's M less this one's.
    return f"{reached(record)}." if told and record["settings"]["of"] != "difference" else ""


def protocol(record: "Mapping[str, Any]") -> str:
    """How a run of the published design stands to the protocol; nothing of another."""
    return protocol_in_words(record["changed_from_published"]) if "changed_from_published" in record else ""


def reached(record: "Mapping[str, Any]") -> str:
    """How narrow the curve got, and why the run ended."""
    from experiments.records import ENDED, ended_in_words
    from interactions.intervals import MIN_IMAGES

    if "reached" not in record:
        return f"{ENDED[record['ended']]}: the same command goes on" if record["ended"] == "minutes" else ""
    found, asked = record["reached"], record["settings"]["precision"]
    of_itself = {"rms": ", of itself"}.get(
        found["measure"], ", of itself where it is above 1" * bool(found.get("relative"))
    )
    known = f"known to ±{found['widest'] or 0:.3g} at the widest order{of_itself}"
    if len(record["images"]) < MIN_IMAGES:
        known = f"has no intervals: fewer than {MIN_IMAGES} images"
    elif found["widest"] is None:
        known = "has no interval at some orders, where noise rules"
    alone = (record["ended"] == "images" and found.get("images_alone")) or 0
    why = f"; however many passes, these images leave about ±{alone:.3g}" if alone > asked else ""
    if 0 < alone <= asked < (found["widest"] or 0):
        why = f"; without the noise of their passes these images leave about ±{alone:.3g}: more images would bring it, "
        why += "more passes hardly"
    return f"{found['measure']} {known} (asked for ±{asked:g}): {ended_in_words(record)}{why}"


def closing_table(profile: "Profile") -> str:
    """The curve as lines of at most 100 characters, with half the interval of what the precision is of (± …)."""
    from experiments.measuring.comparison import read

    measure = profile.record.get("reached", {}).get("measure", "J_rms")
    columns = ["order", "ratio", "design", "pairs", "A", "A_corrected", "rms", "J", "J_corrected", "J_rms"]
    numbers = [*(name for name in columns if name != "design"), f"{measure}_low", f"{measure}_high"]
    table = read(profile, "strength.csv", numbers, ["design"])
    half = (table[f"{measure}_high"] - table[f"{measure}_low"]) / 2
    table = table[columns].assign(order=table["order"].astype(int), **{f"±{measure}": half})
    return table.to_string(index=False, float_format="{:.3g}".format)


def report(profile: "Profile") -> None:
    """The table of the curve and what was left out, for the terminal."""
    from experiments.measuring.comparison import MASS, read
    from experiments.records import between, pairs_measured, tell_skipped
    from interactions.levels import in_words
    from interactions.masses import in_middle

    record = profile.record
    print(closing_table(profile))
    tell_skipped(record)
    for said in filter(None, (in_words(record), pairs_measured(record), protocol(record))):
        print(said)
    if record["wrong"]:
        print(f"left out {record['wrong']} images that the model classifies wrongly")
    if record["floor_note"]:
        print(f"no numerical floor: {record['floor_note']}")
    if said := reached(record):
        print(said)
    mass = read(profile, "middle_mass.csv", MASS, ["measure"]).set_index("measure")
    if all(in_middle(one["ratio"]) for one in record["orders"]):
        print("M of J_rms is 1 whatever the model: all listed orders are in the middle")
    elif "J_rms" in mass.index:
        value, low, high = mass.loc["J_rms", ["M", "M_low", "M_high"]]
        row = {"low": low, "high": high, "images": len(record["images"])}
        print(f"M of J_rms {value:.3f} {between(row, signed=False)}")
    looks = record.get("looks", 0)
    times = f" (measured up to {1 + looks} times)" * (looks > 0)
    print(
        f"{len(record['images'])} images{times}, {record['passes']:,} passes, {record['seconds']:.0f} s; "
        f"wrote {profile.folder / 'strength.png'}, and strength.csv, middle_mass.csv and run.json beside it"
    )
