"""What the words of records and tables are called in a figure: a reader of a journal has not seen the program."""

import re
from collections.abc import Iterable

VALUES = {"log_prob": "log-probability", "cosine": "cosine similarity"}
BASELINES = {
    "mean": "mean colour",
    "image_mean": "mean colour of the image",
    "drop": "drop (tokens of absent cells removed, nothing painted)",
}
SPELLINGS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet", "coco": "COCO", "camvid": "CamVid"}
"""Of data sets whose files are written in small letters."""
COLUMNS = {
    "J": "J (raw)",
    "J_corrected": "J (noise-corrected)",
    "J_rms": "J (rms)",
    "A": "strength (raw)",
    "A_corrected": "strength (noise-corrected)",
    "rms": "strength (rms)",
    "mean_square": "mean square",
    "ratio": "order ratio",
    "setup": "set-up",
    "run_a": "run A",
    "run_b": "run B",
    "method_a": "method",
    "method_b": "less",
    "boot_low": "bootstrap from",
    "boot_high": "to",
    "p_holm": "p (Holm)",
    "low_all": "for all together from",
    "high_all": "to",
    "top1": "top-1 (%)",
    "best_top1": "best top-1 (%)",
    "top1, last": "top-1, last epoch (%)",
    "top1, best": "top-1, best epoch (%)",
    "knn": "nearest neighbours (%)",
    "val_loss": "validation loss",
    "cpu_seconds": "CPU seconds",
}
MEASURES = {
    "miou": "mIoU",
    "top1": "top-1",
    "mean_accuracy": "mean accuracy",
    "pixel_accuracy": "pixel accuracy",
    **{f"{kind}_ap{end}": f"{kind} AP{end}" for kind in ("box", "mask") for end in ("", "50", "75")},
}
"""Of transfer."""
DETECTORS = {"faster_rcnn": "Faster R-CNN", "mask_rcnn": "Mask R-CNN", "fpn": "FPN", "upernet": "UPerNet"}
SPLITS = ("train", "val", "validation", "test")
PLACES = {"patch_embed": "patch embedding"}


def value_in_words(value: str) -> str:
    """What the model's output v is: log_odds is log-odds."""
    return VALUES.get(value, value.replace("_", "-") if ":" not in value else value)


def baseline_in_words(baseline: str) -> str:
    """What absent cells show."""
    return BASELINES.get(baseline, baseline.replace("_", " ") if ":" not in baseline else baseline)


def crop_in_words(mode: str) -> str:
    """How an image is cut, by timm's word for it."""
    return "centre crop" if mode == "center" else f"{mode} crop"


def data_in_words(name: str) -> str:
    """A data set by its folder, file or registered name: some/where/cifar10-test.tar is CIFAR-10 test."""
    *folders, last = re.sub(r"\.(tar|zip)$", "", name.rstrip("/")).split("/")
    stem = f"{folders[-1]} {last}" if folders and last in SPLITS else last
    words = [SPELLINGS.get(word.lower(), word) for word in re.split(r"[-_ ]+", stem)]
    return " ".join(word for word in words if word)


def measure_in_words(measure: str) -> str:
    """What is reached on another task: box_ap50 is box AP50."""
    return MEASURES.get(measure, measure.replace("_", " "))


def setup_in_words(setup: str) -> str:
    """What a study measured: "frozen cosine" is frozen, cosine similarity; "frozen cosine blur" the same with another
    baseline than the mean colour; "faster_rcnn, frozen" is Faster R-CNN, frozen."""
    if ", " in setup:
        decoder, _, how = setup.partition(", ")
        return f"{DETECTORS.get(decoder, decoder)}, {how}"
    state, *rest = setup.split(" ")
    words = [value_in_words(value) for value in rest[:1]] + [each.replace("_", " ") for each in rest[1:]]
    return ", ".join([state, *words])


def place_in_words(place: str) -> str:
    """A module of a network: stages.0.blocks.1 is stage 0, block 1."""
    words = re.sub(r"\b(block|stage|layer)s\.(\d+)\.?", r"\1 \2, ", place).rstrip(", ")
    return PLACES.get(words, words)


def spaced(numbers: Iterable[float]) -> str:
    """Such as the mean of each channel."""
    return " ".join(f"{number:.4g}" for number in numbers)


def column_in_words(column: str) -> str:
    """The header of a column of a table: J_rms is J (rms)."""
    return COLUMNS.get(column, column.replace("_", " "))


def left_out(names: Iterable[str]) -> str:
    """Of what a page has no room for; empty where there is nothing."""
    listed = "; ".join(names)
    return f"Not on this page, but in the table: {listed}." if listed else ""


def count_in_words(counts: list[int], what: str) -> str:
    """ "16 images", "8 to 16 images", "1 image"; "an unknown number of images" where no table told one."""
    if not counts:
        return f"an unknown number of {what}s"
    least, most = min(counts), max(counts)
    return f"{least if least == most else f'{least} to {most}'} {what}{'s' * (most != 1)}"
