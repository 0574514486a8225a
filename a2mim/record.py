"""The parts of a training run's run.json, and of what kind each is."""

from typing import Any, NotRequired, TypedDict


class Part(TypedDict):
    """A part of the images of a run, as its record has it."""

    images: int
    digest: str


class Record(TypedDict):
    """What run.json holds of which kind; what else it says is read by no one but people."""

    command: str
    settings: dict[str, Any]
    finished: bool
    data: NotRequired[dict[str, Part]]
    architecture: NotRequired[dict[str, Any]]
    method_settings: NotRequired[dict[str, Any]]
    loaded: NotRequired[dict[str, Any] | None]
    classes: NotRequired[dict[str, int]]
    last: NotRequired[dict[str, float | None]]
    best: NotRequired[dict[str, float | None]]
    versions: NotRequired[dict[str, Any]]
    resumed: NotRequired[list[dict[str, Any]]]
    extended: NotRequired[list[dict[str, Any]]]
    skipped: NotRequired[list[Any]]
    constant: NotRequired[list[Any]]
    step: NotRequired[int]
    steps: NotRequired[int]
    channels_last: NotRequired[bool]
    epochs: NotRequired[int]
    images: NotRequired[int]
    processes: NotRequired[int]
    seconds: NotRequired[float]
    cpu_seconds: NotRequired[float | None]
