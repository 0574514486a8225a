"""The target classes of another run's images, so that two models can be measured on the same classes without labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interactions.runs import storage
from interactions.seen import refuse_others, seen_by


@dataclass(frozen=True)
class Classes:
    """by_name: the class that a run explained in each of its images. classes: how many its model has. told: which run
    that is, by what decides its classes, so that a run that takes them can be gone on with when that one has grown.
    digests: of its images' pixels, by name; seen: how these were made."""

    folder: Path
    by_name: Mapping[str, int]
    classes: int
    told: str
    digests: Mapping[str, str]
    seen: Mapping[str, Any]

    def refuse_others(self, chosen: Sequence[Any], seen: Mapping[str, Any]) -> None:
        """Raise ValueError for chosen images, made so, that are called as this run's and are others."""
        refuse_others(seen, {one.name: one.digest for one in chosen}, self.seen, self.digests, str(self.folder))


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
    by_name, digests = ({one["name"]: one[what] for one in images} for what in ("target", "digest"))
    return Classes(Path(folder), by_name, record["classes"], told, digests, seen_by(record))
