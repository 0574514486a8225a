"""The weights that a run keeps through training, so that they can be measured afterwards: course/step-N.safetensors.

They are what backbone.safetensors holds at the end, before the first step and after each of so many equal parts of all
steps. None is ever removed. Where a finished run is extended, those that it kept stay, and those of the longer run's
parts that lie ahead are added.
"""

from pathlib import Path

FOLDER = "course"


def kept_steps(steps: int, parts: int) -> list[int]:
    """After how many steps weights are kept, 0 and `steps` among them; none where there are no parts.

    Raises:
        ValueError: more parts than steps.
    """
    if parts > steps:
        raise ValueError(f"--keep-states {parts} is more than the {steps} steps of this run: keep {steps} or fewer")
    return [round(part * steps / parts) for part in range(parts + 1)] if parts else []


def course_file(folder: Path, step: int) -> Path:
    """Where a run in `folder` keeps its weights after so many steps."""
    return folder / FOLDER / f"step-{step:08d}.safetensors"


def kept_states(folder: Path) -> dict[int, Path]:
    """The files of the weights that a run kept, by step, ascending."""
    found = {path.stem.removeprefix("step-"): path for path in (folder / FOLDER).glob("step-*.safetensors")}
    return {int(step): found[step] for step in sorted(filter(str.isdecimal, found), key=int)}
