"""Where every number comes from: a card for each run."""

from collections.abc import Mapping, Sequence
from typing import Any

from figures.page.blocks import Card, Section
from figures.runs import Run

SETTINGS = ("grid", "radius", "pairs", "value", "baseline", "target", "design", "budget", "method", "seed")


def card_section(runs: Sequence[Run], told: Sequence[Run] = ()) -> Section:
    """A card for each run that has a run.json, and for those that the figures of a study tell of."""
    names = [run.name for run in (*runs, *told)]
    cards = [
        Card(
            run.name if names.count(run.name) == 1 else f"{run.name}: {run.record.get('command', '')}",
            _facts(run),
            run.record if run in runs else {},
        )
        for run in (*runs, *told)
        if run.record
    ]
    return Section("Models and runs", cards, folded=True)


def _facts(run: Run) -> dict[str, str]:
    """The card's lines: what is known of them."""
    record = run.record
    model, data, settings = (_mapping(record.get(key), "name") for key in ("model", "data", "settings"))
    network, source = _mapping(settings.get("network"), "model"), _mapping(settings.get("data"), "name")
    machine = _mapping(record.get("machine"), "processor")
    versions = _mapping(record.get("versions"), "a2mim")
    images = record.get("images")
    epochs, step = record.get("epochs"), record.get("step")
    facts = {
        "command": record.get("command"),
        "model": model.get("name") or network.get("model"),
        "parameters": f"{model['parameters']:,}" if isinstance(model.get("parameters"), int) else None,
        "weights": network.get("weights"),
        "digest": model.get("digest") or record.get("model_digest"),
        "data": data.get("name") or source.get("data"),
        "images": len(images) if isinstance(images, list) else images,
        "settings": ", ".join(f"{key} {settings[key]}" for key in SETTINGS if settings.get(key) not in (None, "")),
        "recipe": record.get("recipe"),
        "trained": f"{epochs:g} epochs, {step:,} steps" if _number(epochs) and _number(step) else None,
        "ended": "by its minutes" if record.get("ended") == "minutes" else None,
        "passes": f"{record['passes']:,}" if isinstance(record.get("passes"), int) else None,
        "seconds": f"{record['seconds']:,.0f}" if _number(record.get("seconds")) else None,
        "started": record.get("started"),
        "device": machine.get("accelerator") or record.get("device"),
        "machine": ", ".join(str(machine[key]) for key in ("processor", "cores", "system") if machine.get(key)),
        "commit": record.get("commit") or versions.get("commit"),
        "versions": ", ".join(f"{name} {versions[name]}" for name in ("a2mim", "torch", "timm") if name in versions),
        "folder": str(run.folder),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    """The value where it is a mapping; a lone word under `name`."""
    if isinstance(value, Mapping):
        return value
    return {} if value is None else {name: value}
