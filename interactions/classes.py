"""The target classes of another run's images, so that two models can be measured on the same classes without labels."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from interactions.runs import storage


@dataclass(frozen=True)
class Classes:
    """by_name: the class that a run explained in each of its images. classes: how many its model has. told: which run
    that is, by what decides its classes, so that a run that takes them can be gone on with when that one has grown."""

    folder: Path
    by_name: Mapping[str, int]
    classes: int
    told: str


def classes_of(folder: str | Path) -> Classes:
    """The classes that the profile in a folder, finished or not, explains.

    Raises:
        FileNotFoundError: no profile there.
        ValueError: a profile without classes, or two of its images of one name.
    """
    record = storage.read_run(Path(folder))
    if record is None:
        raise FileNotFoundError(f"the target {folder} holds no profile: there is no run.json")
    images = [*record["images"], *record.get("ahead", ())]
    if any(one["target"] is None for one in images) or not images:
        raise ValueError(f"{folder} explains no classes (its value is {record['settings']['value']}): name another run")
    counts = Counter(one["name"] for one in images)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{folder} holds {twice[0]} more than once: images are told apart by their names")
    model, settings = record["model"], record["settings"]
    told = f"{settings['target']} of {model['name']} ({model['digest'][:16]})"
    return Classes(Path(folder), {one["name"]: one["target"] for one in images}, record["classes"], told)
