"""One self-contained page of results: curves, tables, pictures, and where every number comes from.

    sections = [Section("What came out", ["Two sentences."]), *sections_of(open_runs(folders, names))]
    write_report("report.html", sections, "CIFAR-10")

The page is made of what measuring and training runs wrote (tables, logs, pictures, run.json), never of a model. It asks
the network for nothing, and is read with pointer, finger, keyboard or screen reader, and without script.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from figures.curves import MEASURES, MIDDLE, hollow_words, interval_words, left_out, read_strength
from figures.depth import FACETS as DEPTH_FACETS
from figures.fig1 import OCCLUSION_FACETS
from figures.page.blocks import Block, Card, Chart, Charts, Curve, Fold, Gallery, Picture, Rows, Section
from figures.page.document import check_suffix, write_page
from figures.run_pictures import holds_pictures, picture_section, study_figures
from figures.runs import Run, alike, grid_words, label, open_runs, pair_words, read_json, unlike
from figures.tables import has_rows, read_table
from figures.training import read_log

__all__ = [
    "Block", "Card", "Chart", "Charts", "Curve", "Fold", "Gallery", "Picture", "Rows", "Section",
    "check_suffix", "open_runs", "profile_groups", "sections_of", "told_apart",
    "write_report",
]  # fmt: skip

RELATIVE = ("J_rms", "J_corrected", "J")
ORDER_AXIS = "order ratio m / (n − 2)"
PROFILE_FACETS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "grid": grid_words,
    "value": lambda record: record["settings"]["value"],
    "baseline": lambda record: record["settings"]["baseline"],
    "target": lambda record: record["settings"]["target"],
    "pairs": pair_words,
    "orders": lambda record: ", ".join(f"{one['ratio']:g}" for one in record["orders"]),
    "data": lambda record: record["data"]["name"],
}
# Tables of a study: what the page calls them, the number that is drawn, and the line beside which it is.
STUDY: dict[str, tuple[str, str, float | None]] = {
    "accuracy.csv": ("Accuracy, per cent", "", None),
    "masses.csv": ("Middle mass M of every model and seed", "M", 1.0),
    "differences.csv": ("Differences of M between methods", "difference", 0.0),
    "published.csv": ("Published protocol, with its contexts and with four times as many", "M", None),
    "token_position.csv": ("Where the mask token goes", "", None),
}
ALWAYS = {"profile": ("strength.csv",), "occlusion": ("occlusion.csv",), "spectrum": ("spectrum.csv", "variance.csv")}
"""Tables that a finished run of a command has, and that a page does not leave out in silence."""
TABLES = ("strength.csv", "occlusion.csv", "shuffling.csv", "spectrum.csv", "variance.csv", "log.jsonl", *STUDY)
CHANCE = "One in twenty intervals leaves out the true value by chance, and more than one where many are looked at."

NUMBER = " · "  # parts the name that several runs share from the number of each

MOST_POINTS = 40  # of a loss curve
MOST_BLOCKS, MOST_FREQUENCIES = 8, 17  # of one model's spectra


def write_report(path: str | Path, sections: Sequence[Section], title: str = "Report", lead: str = "") -> Path:
    """Write the page, whole or not at all; the same sections give the same bytes.

    Args:
        path: .html.
        sections: `sections_of` runs, and the caller's own. A string among the blocks of a section is a paragraph.
        lead: words under the title; an empty line parts paragraphs.

    Raises:
        ValueError: no section; another suffix; a table or picture that cannot be shown.
        OSError: a folder that cannot be written to, a picture that is not there.
    """
    return write_page(path, sections, title, lead)


def sections_of(runs: Sequence[Run], differences: pd.DataFrame | None = None, maps: int = 4) -> list[Section]:
    """The sections for which these runs have results, in the order of a paper; a card for each run at the end.

    A run is what its folder holds: a profile, occlusion, spectra, a training run, reconstructions (.npz), pair maps
    (NAME-cells.csv beside their figure), or the tables and pictures of a study.

    Args:
        runs: from `open_runs`; those of one name that hold the same table are seeds, and look alike.
        differences: of M between profiles: run_a, run_b, measure, difference, low, high, images.
        maps: the largest number of pair maps to draw from the pairs that profiles kept.

    Raises:
        ValueError: a run that holds nothing to show; a table that cannot be read or lacks a
            column.
    """
    runs = told_apart(runs)
    empty = [str(run.folder) for run in runs if not any(map(run.holds, TABLES)) and not holds_pictures(run)]
    if empty:
        raise ValueError(f"{', '.join(empty)} holds nothing to report: give folders that `a2mim` commands wrote")
    for run in runs:
        gone = [name for name in ALWAYS.get(run.record.get("command", ""), ()) if not run.holds(name)]
        if gone:
            raise ValueError(f"{run.folder} lacks {', '.join(gone)}: start its command again, it writes that anew")
    sections = [
        study_section(runs),
        accuracy_section(runs),
        profile_section(runs, differences),
        occlusion_section(runs),
        spectrum_section(runs),
        picture_section(runs, maps),
        loss_section(runs),
        card_section(runs),
    ]
    return [section for section in sections if section.blocks]


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs with a number in the name where several of one name hold the same table, as seeds of one model do."""
    held = [tuple(map(run.holds, TABLES)) for run in runs]
    whole = [(label(run), tables) for run, tables in zip(runs, held, strict=True)]
    names = [
        f"{name}{NUMBER}{whole[: k + 1].count((name, tables))}" if whole.count((name, tables)) > 1 else name
        for k, (name, tables) in enumerate(whole)
    ]
    return [replace(run, name=name, panel="") for run, name in zip(runs, names, strict=True)]


def study_section(runs: Sequence[Run]) -> Section:
    """The figures and tables of results folders."""
    blocks: list[Block] = []
    for run in runs:
        if run.record.get("command") is None:
            blocks += [_figure(path) for path in study_figures(run)]
        for name, (caption, plot, reference) in STUDY.items():
            if not has_rows(run.folder / name):
                continue
            blocks.append(
                _rows(read_table(run.folder / name, [], [], f"{name} of {run.name}"), caption, plot, reference)
            )
            if name == "differences.csv":
                blocks.append(CHANCE)
    return Section("Results of the study", blocks)


def accuracy_section(runs: Sequence[Run]) -> Section:
    """One row for each training run that was evaluated."""
    rows = []
    for run in runs:
        best, last = (run.record.get(key) or {} for key in ("best", "last"))
        if "top1" not in last:
            continue
        rows.append(
            {
                "run": run.name,
                "command": run.record.get("command", ""),
                "top1, last": last["top1"],
                "top1, best": best.get("top1", np.nan),
                "images": last.get("val_images", np.nan),
                "epochs": run.record.get("epochs", np.nan),
                "seconds": run.record.get("seconds", np.nan),
            }
        )
    return Section("Accuracy", [_rows(pd.DataFrame(rows), "Top-1 accuracy, per cent")] if rows else [])


def profile_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """The profiles, those together that measured alike (grid, value, baseline, target, pairs, orders, data)."""
    groups: list[list[Run]] = []
    for run in runs:
        if not run.holds("strength.csv"):
            continue
        like = next((group for group in groups if not unlike([group[0], run], PROFILE_FACETS)), None)
        if like is None:
            groups.append([run])
        else:
            like.append(run)
    return groups


def profile_section(runs: Sequence[Run], differences: pd.DataFrame | None = None) -> Section:
    """J by order of every profile, M, and the differences of M; profiles that measured alike share charts."""
    groups, blocks = profile_groups(runs), list[Block]()
    if len(groups) > 1:
        blocks.append("Only runs that measured alike share charts; these runs make up several groups.")
    for group in groups:
        blocks += _profile_blocks(group, differences, _ground(group[0]) if len(groups) > 1 else "")
    return Section("Interaction strength by order", blocks)


def occlusion_section(runs: Sequence[Run]) -> Section:
    """Accuracy against the share of cells that were dropped, and against the grid that was shuffled."""
    columns = ["top1", "low", "high", "images", "seeds"]
    dropped = _read(runs, "occlusion.csv", ["share", *columns], ["kind"])
    shuffled = _read(runs, "shuffling.csv", ["grid", *columns], [])
    charts = []
    for kind in dict.fromkeys(kind for rows in dropped.values() for kind in rows["kind"]):
        curves = [
            _curve(name, chosen, "share", "top1", _counts(chosen))
            for name, rows in dropped.items()
            if len(chosen := rows[rows["kind"] == kind].sort_values("share"))
        ]
        title = f"Top-1 accuracy (%), {str(kind).replace('_', '-')} cells dropped"
        charts.append(Chart(title, "share of cells dropped", curves, "share", "top-1", limits=(0.0, 100.0)))
    if shuffled:
        curves = [
            _curve(name, rows.sort_values("grid"), "grid", "top1", _counts(rows.sort_values("grid")))
            for name, rows in shuffled.items()
        ]
        charts.append(
            Chart(
                "Top-1 accuracy (%), cells shuffled", "cells along a side", curves, "grid", "top-1", limits=(0.0, 100.0)
            )
        )
    words = [
        "Bars: 95 % intervals over images.",
        _differences(runs, "occlusion.csv", OCCLUSION_FACETS),
    ]
    caption = " ".join(filter(None, words))
    return Section("Occlusion and shuffling", [Charts(charts, caption)] if charts else [])


def spectrum_section(runs: Sequence[Run]) -> Section:
    """What each depth of the networks passes on: high frequencies and variance; the whole spectra fold out."""
    about = ["block", "depth", "low", "high", "images"]
    spectra = _read(runs, "spectrum.csv", [*about, "frequency", "log_amplitude"], ["name", "kind"])
    variances = _read(runs, "variance.csv", [*about, "variance"], ["name", "kind"])
    charts, folds = [], list[Block]()
    if spectra:
        curves = []
        for name, rows in spectra.items():
            highest = rows[rows["frequency"] == rows["frequency"].max()].sort_values("depth")
            curves.append(_curve(name, highest, "depth", "log_amplitude", _block_words(highest)))
            folds.append(Fold(f"Spectra of {name} by block", [_spectra_of(name, rows)]))
        title = "Log amplitude of the highest frequency, relative to frequency 0"
        charts.append(Chart(title, "normalised depth", curves, "depth", "log amplitude"))
    if variances:
        curves = [
            _curve(name, ordered, "depth", "variance", _block_words(ordered))
            for name, rows in variances.items()
            if len(ordered := rows.sort_values("depth"))
        ]
        charts.append(Chart("Variance of the features", "normalised depth", curves, "depth", "variance", None, True))
    words = ["Bars: 95 % bootstrap intervals over images.", _differences(runs, "spectrum.csv", DEPTH_FACETS)]
    caption = " ".join(filter(None, words))
    return Section("Spectrum by depth", [Charts(charts, caption), *folds] if charts else [])


def loss_section(runs: Sequence[Run]) -> Section:
    """The loss of every training run; only runs of one method and command share a chart, as losses differ in kind."""
    kinds: dict[str, list[Curve]] = {}
    for run in runs:
        if not run.holds("log.jsonl"):
            continue
        settings = run.record.get("settings") or {}
        kind = " ".join(filter(None, [str(run.record.get("command", "training")), str(settings.get("method", ""))]))
        log = read_log(run.folder / "log.jsonl").drop_duplicates("step", keep="last").sort_values("step")
        kinds.setdefault(kind, []).append(_loss_curve(run.name, log))
    charts = [Chart(f"Loss: {kind}", "step", curves, "step", "loss") for kind, curves in kinds.items()]
    caption = f"Each point is the mean of neighbouring entries of the log, {MOST_POINTS} points at most."
    return Section("Training", [Charts(charts, caption)] if charts else [])


def card_section(runs: Sequence[Run]) -> Section:
    """Where every number comes from: a card for each run that has a run.json."""
    names = [run.name for run in runs]
    cards = [
        Card(
            run.name if names.count(run.name) == 1 else f"{run.name}: {run.record.get('command', '')}",
            _facts(run),
            run.record,
        )
        for run in runs
        if run.record
    ]
    return Section("Models and runs", cards)


def _profile_blocks(group: list[Run], differences: pd.DataFrame | None, title: str) -> list[Block]:
    measures = (*RELATIVE, "rms")
    tables = {
        run.name: read_strength(run.folder / "strength.csv", (*measures, "rms"), f"the strength table of {run.name}")
        for run in group
    }
    unit = (group[0].record.get("settings") or {}).get("value", "units of v").replace("_", "-")
    charts = []
    for measure in measures:
        kind, quantity, scale = MEASURES[measure]
        curves = [_strength_curve(name, rows, measure) for name, rows in tables.items()]
        relative = measure in RELATIVE
        words = f"{quantity[0].upper()}{quantity[1:]}, {kind} ({scale.format(v=unit)})"
        shade = MIDDLE if relative else None
        symbol = "J" if relative else "A"
        charts.append(Chart(words, ORDER_AXIS, curves, "order ratio", symbol, shade, relative, not relative))
    caption = [
        alike(group, PROFILE_FACETS),
        interval_words(list(tables.values())),
        hollow_words(list(tables.values())),
        f"Shaded: order ratios {MIDDLE[0]} to {MIDDLE[1]}, whose mean J is the middle mass M.",
        _images_words(group),
        *(sentence for name, rows in tables.items() for sentence in left_out(rows, RELATIVE, of=f" of {name}")),
    ]
    blocks: list[Block] = [Charts(charts, " ".join(filter(None, caption)), title)]
    masses = _masses(group)
    if len(masses):
        blocks.append(Rows("Middle mass M: mean of J over the shaded orders", masses, "M", 1.0))
    if differences is not None:
        names = [run.name for run in group]
        chosen = differences[differences["run_a"].isin(names) & differences["run_b"].isin(names)]
        if len(chosen):
            words = "Differences of M (run_a − run_b), paired over the images that both hold"
            blocks += [Rows(words, chosen, "difference", 0.0), CHANCE]
    every = pd.concat([rows.assign(run=name) for name, rows in tables.items()], ignore_index=True)
    columns = ["run", "order", "ratio", "images", *(f"{m}{end}" for m in measures for end in ("", "_low", "_high"))]
    blocks.append(Fold("The numbers of these curves", [Rows("Strength by order", every[columns])]))
    return blocks


def _ground(run: Run) -> str:
    """What tells a group of profiles from the others, for its title."""
    settings, data = run.record.get("settings") or {}, _mapping(run.record.get("data"), "name")
    facts = [f"{grid_words(run.record)}{' grid' * isinstance(settings['grid'], int)}"] if "grid" in settings else []
    facts += [str(settings[key]).replace("_", "-") for key in ("value", "baseline") if key in settings]
    return ", ".join([*facts, str(data.get("name", ""))]).rstrip(", ")


def _images_words(group: list[Run]) -> str:
    """A sentence where the runs of a group do not hold the same images."""
    held = [{str(one.get("name")) for one in run.record.get("images") or []} for run in group]
    if len({frozenset(names) for names in held}) < 2:
        return ""
    return f"These runs do not hold the same images: {len(set.intersection(*held))} are in all of them."


def _masses(group: list[Run]) -> pd.DataFrame:
    tables = [
        rows.assign(run=name)
        for name, rows in _read(group, "middle_mass.csv", ["M", "M_low", "M_high"], ["measure"]).items()
    ]
    if not tables:
        return pd.DataFrame()
    return pd.concat(tables, ignore_index=True)[["run", "measure", "M", "M_low", "M_high", "images"]]


def _strength_curve(name: str, rows: pd.DataFrame, measure: str) -> Curve:
    near = np.where(rows["near_floor"], ", near the numerical floor", "")
    notes = [f"order {m}, {n} images{words}" for m, n, words in zip(rows["order"], rows["images"], near, strict=True)]
    return _curve(name, rows, "ratio", measure, notes, f"{measure}_low", f"{measure}_high", rows["near_floor"].tolist())


def _curve(
    name: str,
    rows: pd.DataFrame,
    x: str,
    y: str,
    notes: Sequence[str],
    low: str = "low",
    high: str = "high",
    hollow: Sequence[bool] = (),
) -> Curve:
    xs, ys, lows, highs = (rows[column].astype(float).tolist() for column in (x, y, low, high))
    return Curve(name, xs, ys, lows, highs, notes, hollow, name.split(NUMBER)[0])


def _counts(rows: pd.DataFrame) -> list[str]:
    return [f"{row.images} images, {row.seeds} seeds" for row in rows.itertuples()]


def _block_words(rows: pd.DataFrame) -> list[str]:
    return [f"block {row.block} {row.name} ({row.kind}), {row.images} images" for row in rows.itertuples(index=False)]


def _differences(runs: Sequence[Run], table: str, facets: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> str:
    """A sentence on what the runs with this table did not measure alike."""
    return unlike([run for run in runs if run.holds(table)], facets)


def _spectra_of(name: str, rows: pd.DataFrame) -> Charts:
    blocks, frequencies = sorted(rows["block"].unique()), sorted(rows["frequency"].unique())
    kept = _spread(blocks, MOST_BLOCKS)
    rows = rows[rows["block"].isin(kept) & rows["frequency"].isin(_spread(frequencies, MOST_FREQUENCIES))]
    curves = []
    for block in kept:
        chosen = rows[rows["block"] == block].sort_values("frequency")
        first = chosen.iloc[0]
        label = f"{first['name']} ({first['kind']}, depth {first['depth']:.2f})"
        notes = [f"{images} images" for images in chosen["images"]]
        curves.append(_curve(label, chosen, "frequency", "log_amplitude", notes))
    title = f"{name}: log amplitude, relative to frequency 0"
    chart = Chart(title, "frequency / π", curves, "frequency", "log amplitude")
    words = f"Drawn: {len(kept)} of {len(blocks)} blocks." if len(kept) < len(blocks) else ""
    return Charts([chart], words)


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[k] for k in np.linspace(0, len(values) - 1, most).round().astype(int)]


def _loss_curve(name: str, log: pd.DataFrame) -> Curve:
    parts = [log.iloc[rows] for rows in np.array_split(np.arange(len(log)), min(len(log), MOST_POINTS))]
    notes = [f"learning rate {part['lr'].iloc[-1]:.3g}" for part in parts]
    steps = [float(part["step"].iloc[-1]) for part in parts]
    losses = [float(part["loss"].mean()) for part in parts]
    return Curve(name, steps, losses, notes=notes, legend=name.split(NUMBER)[0])


def _read(runs: Iterable[Run], table: str, numbers: list[str], texts: list[str]) -> dict[str, pd.DataFrame]:
    """The table of each run that holds it, by the run's name."""
    return {
        run.name: read_table(run.folder / table, numbers, texts, f"{table} of {run.name}")
        for run in runs
        if has_rows(run.folder / table)
    }


def _rows(table: pd.DataFrame, caption: str, plot: str = "", reference: float | None = None) -> Rows:
    """The table; drawn where the column has an interval."""
    ends = ({f"{plot}_low", f"{plot}_high"}, {"low", "high"})
    drawn = plot in table.columns and any(pair <= set(table.columns) for pair in ends)
    return Rows(caption, table, plot if drawn else "", reference if drawn else None)


def _figure(path: Path) -> Picture:
    """A figure of a results folder; the file beside it, where there is one, says what is noted on it."""
    words = path.stem.replace("_", " ").replace("-", " ")
    beside = path.with_suffix(".json")
    about = read_json(beside) if beside.exists() else {}
    drawn = about.get("runs", [])
    runs = ", ".join(dict.fromkeys(str(run["name"]) for run in drawn if isinstance(run, dict) and "name" in run))
    caption = [f"{words}.", f"Runs: {runs}." if runs else "", str(about.get("note") or "")]
    return Picture(path, f"Figure {words}", " ".join(filter(None, caption)))


def _facts(run: Run) -> dict[str, str]:
    """The card's lines: what is known of them."""
    record = run.record
    model, data, settings = (_mapping(record.get(key), "name") for key in ("model", "data", "settings"))
    network, source = _mapping(settings.get("network"), "model"), _mapping(settings.get("data"), "name")
    machine = _mapping(record.get("machine"), "processor")
    versions = record.get("versions") or {}
    images = record.get("images")
    epochs, step = record.get("epochs"), record.get("step")
    keys = ("grid", "radius", "pairs", "value", "baseline", "target", "design", "budget", "method", "seed")
    facts = {
        "command": record.get("command"),
        "model": model.get("name") or network.get("model"),
        "parameters": f"{model['parameters']:,}" if isinstance(model.get("parameters"), int) else None,
        "weights": network.get("weights"),
        "digest": model.get("digest"),
        "data": data.get("name") or source.get("data"),
        "images": len(images) if isinstance(images, list) else images,
        "settings": ", ".join(f"{key} {settings[key]}" for key in keys if settings.get(key) not in (None, "")),
        "recipe": record.get("recipe"),
        "trained": f"{epochs:g} epochs, {step:,} steps" if epochs and step else None,
        "passes": f"{record['passes']:,}" if isinstance(record.get("passes"), int) else None,
        "seconds": f"{record['seconds']:,.0f}" if isinstance(record.get("seconds"), int | float) else None,
        "started": record.get("started"),
        "device": machine.get("accelerator") or record.get("device"),
        "machine": ", ".join(str(machine[key]) for key in ("processor", "cores", "system") if machine.get(key)),
        "commit": record.get("commit") or versions.get("commit"),
        "versions": ", ".join(f"{name} {versions[name]}" for name in ("a2mim", "torch", "timm") if name in versions),
        "folder": str(run.folder),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    """The value where it is a mapping; a lone word under `name`."""
    if isinstance(value, Mapping):
        return value
    return {} if value is None else {name: value}
