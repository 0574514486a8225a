"""One self-contained page of results: curves, tables, pictures, and where every number comes from.

    sections = [Section("What came out", ["Two sentences."]), *sections_of(open_runs(folders, names))]
    write_report("report.html", sections, "CIFAR-10")

The page is made of what measuring and training runs wrote (tables, logs, pictures, run.json), never of a model. It asks
the network for nothing, and is read with pointer, finger, keyboard or screen reader, and without script.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from figures.curves import MEASURES, MIDDLE, hollow_words, interval_words, left_out, read_strength
from figures.page.blocks import Block, Card, Chart, Charts, Curve, Fold, Gallery, Picture, Rows, Section
from figures.page.document import check_suffix, write_page
from figures.pair_map import draw_pair_map
from figures.runs import Run, alike, open_runs, unlike
from figures.tables import read_table
from figures.training import read_log

__all__ = [
    "Block", "Card", "Chart", "Charts", "Curve", "Fold", "Gallery", "Picture", "Rows", "Section",
    "check_suffix", "open_runs", "profile_groups", "sections_of", "write_report",
]  # fmt: skip

RELATIVE = ("J_corrected", "J", "J_rms")
ORDER_AXIS = "order ratio m / (n − 2)"
PROFILE_FACETS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "grid": lambda record: "{0}×{0}".format(record["settings"]["grid"]),
    "value": lambda record: record["settings"]["value"],
    "baseline": lambda record: record["settings"]["baseline"],
    "target": lambda record: record["settings"]["target"],
    "pairs": lambda record: f"within radius {record['settings']['radius']}",
    "orders": lambda record: ", ".join(f"{one['ratio']:g}" for one in record["orders"]),
    "data": lambda record: record["data"]["name"],
}
# Tables of a study: what the page calls them, the number that is drawn, and the line beside which it is.
STUDY: dict[str, tuple[str, str, float | None]] = {
    "accuracy.csv": ("Accuracy, per cent", "", None),
    "masses.csv": ("Middle mass M of every model and seed", "M", 1.0),
    "differences.csv": ("Differences of M between methods", "difference", 0.0),
}
TABLES = ("strength.csv", "occlusion.csv", "shuffling.csv", "spectrum.csv", "variance.csv", "log.jsonl", *STUDY)
CHANCE = "One in twenty intervals leaves out the true value by chance, and more than one where many are looked at."

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
        runs: from `open_runs`; no two of one name.
        differences: of M between profiles: run_a, run_b, measure, difference, low, high, images.
        maps: the largest number of pair maps to draw from the pairs that profiles kept.

    Raises:
        ValueError: two runs of one name; a run that holds nothing to show; a table that cannot be read or lacks a
            column.
    """
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"several runs are called {', '.join(twice)}: give each a name of its own")
    empty = [str(run.folder) for run in runs if not any(map(run.holds, TABLES)) and not _files(run)]
    if empty:
        raise ValueError(f"{', '.join(empty)} holds nothing to report: give folders that `a2mim` commands wrote")
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


def study_section(runs: Sequence[Run]) -> Section:
    """The tables of results folders, and their figures."""
    blocks: list[Block] = []
    for run in runs:
        for name, (caption, plot, reference) in STUDY.items():
            if not run.holds(name):
                continue
            rows = _rows(read_table(run.folder / name, [], [], f"{name} of {run.name}"), caption, plot, reference)
            blocks += [rows, CHANCE] if name == "differences.csv" else [rows]
        if run.record.get("command") is None:
            maps = _pair_maps(run)
            blocks += [_figure(path) for path in sorted(run.folder.glob("*.png")) if path not in maps]
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
        words = f"Top-1 accuracy (%), {str(kind).replace('_', '-')} cells dropped"
        charts.append(Chart(words, "share of cells dropped", curves, "share", "top-1", from_zero=True))
    if shuffled:
        curves = [
            _curve(name, rows.sort_values("grid"), "grid", "top1", _counts(rows.sort_values("grid")))
            for name, rows in shuffled.items()
        ]
        charts.append(
            Chart("Top-1 accuracy (%), cells shuffled", "cells along a side", curves, "grid", "top-1", from_zero=True)
        )
    caption = "Bars: 95 % bootstrap intervals over images and seeds."
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
        words = "Log amplitude of the highest frequency, relative to frequency 0"
        charts.append(Chart(words, "normalised depth", curves, "depth", "log amplitude"))
    if variances:
        curves = [
            _curve(name, ordered, "depth", "variance", _block_words(ordered))
            for name, rows in variances.items()
            if len(ordered := rows.sort_values("depth"))
        ]
        charts.append(Chart("Variance of the features", "normalised depth", curves, "depth", "variance", None, True))
    caption = "Bars: 95 % bootstrap intervals over images."
    return Section("Spectrum by depth", [Charts(charts, caption), *folds] if charts else [])


def picture_section(runs: Sequence[Run], maps: int = 4) -> Section:
    """The newest reconstructions of every run, the pair maps that lie there, and maps of the pairs that were kept."""
    blocks: list[Block] = []
    for run in runs:
        blocks += _reconstructions(run)
        for path in _pair_maps(run):
            words = f"{run.name}: which pairs of cells interact in one image ({path.stem})"
            blocks.append(Picture(path, words, words))
    kept = [run for run in runs if run.holds("strength.csv") and (run.folder / "pairs").is_dir()]
    for run in kept[:maps]:
        blocks += _map_of_kept_pairs(run)
    if len(kept) > maps:
        blocks.append(f"Kept pairs are drawn for {maps} of {len(kept)} profiles.")
    return Section("Pictures and pair maps", blocks)


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
    return Section("Models and runs", [Card(run.name, _facts(run), run.record) for run in runs if run.record])


def _profile_blocks(group: list[Run], differences: pd.DataFrame | None, title: str) -> list[Block]:
    measures = (*RELATIVE, "A_corrected")
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
    facts = [f"{settings['grid']}×{settings['grid']} grid"] if "grid" in settings else []
    facts += [str(settings[key]).replace("_", "-") for key in ("value", "baseline") if key in settings]
    return ", ".join([*facts, str(data.get("name", ""))]).rstrip(", ")


def _images_words(group: list[Run]) -> str:
    """A sentence where the runs of a group do not hold the same images."""
    held = [{str(one.get("name")) for one in run.record.get("images") or []} for run in group]
    if len({frozenset(names) for names in held}) < 2:
        return ""
    return f"These runs do not hold the same images: {len(set.intersection(*held))} are in all of them."


def _masses(group: list[Run]) -> pd.DataFrame:
    tables = []
    for run in group:
        path = run.folder / "middle_mass.csv"
        # A profile without middle orders writes a table without rows.
        if path.is_file() and len(rows := pd.read_csv(path)):
            tables.append(read_table(rows.assign(run=run.name), ["M", "M_low", "M_high"], ["measure"], str(path)))
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
    return Curve(name, xs, ys, lows, highs, notes, hollow)


def _counts(rows: pd.DataFrame) -> list[str]:
    return [f"{row.images} images, {row.seeds} seeds" for row in rows.itertuples()]


def _block_words(rows: pd.DataFrame) -> list[str]:
    return [f"block {row.block} {row.name} ({row.kind}), {row.images} images" for row in rows.itertuples(index=False)]


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
    return Curve(name, steps, [float(part["loss"].mean()) for part in parts], notes=notes)


def _read(runs: Iterable[Run], table: str, numbers: list[str], texts: list[str]) -> dict[str, pd.DataFrame]:
    """The table of each run that holds it, by the run's name."""
    return {
        run.name: read_table(run.folder / table, numbers, texts, f"{table} of {run.name}")
        for run in runs
        if run.holds(table)
    }


def _rows(table: pd.DataFrame, caption: str, plot: str = "", reference: float | None = None) -> Rows:
    """The table; drawn where the column has an interval."""
    ends = ({f"{plot}_low", f"{plot}_high"}, {"low", "high"})
    drawn = plot in table.columns and any(pair <= set(table.columns) for pair in ends)
    return Rows(caption, table, plot if drawn else "", reference if drawn else None)


def _files(run: Run) -> list[Path]:
    return [*run.folder.glob("*.png"), *_archives(run)]


def _figure(path: Path) -> Picture:
    """A figure of a results folder; the file beside it, where there is one, says what is noted on it."""
    words = path.stem.replace("_", " ").replace("-", " ")
    beside = path.with_suffix(".json")
    about = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    runs = ", ".join(dict.fromkeys(str(run.get("name")) for run in about.get("runs", [])))
    caption = [f"{words}.", f"Runs: {runs}." if runs else "", about.get("note", "")]
    return Picture(path, f"Figure {words}", " ".join(filter(None, caption)))


def _archives(run: Run) -> list[Path]:
    return sorted([*run.folder.glob("*.npz"), *run.folder.glob("pictures/*.npz")])


def _reconstructions(run: Run) -> list[Block]:
    """A training run leaves several; the newest shows what its weights can do now."""
    archives = _archives(run)
    if not archives:
        return []
    path, names = archives[-1], ("original", "masked", "predicted", "composite")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not set(names) <= set(archive.files):
                return []
            pictures = {name: archive[name].clip(0, 1).transpose(0, 2, 3, 1) for name in names}
    except (OSError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as reconstructions: {error}") from error
    return [Gallery(pictures, f"{run.name}: what it saw, what it predicts, and both together ({path.stem}).")]


def _pair_maps(run: Run) -> list[Path]:
    """The figures of `a2mim map`, known by the table of cells that it writes beside them."""
    stems = [path.name.removesuffix("-cells.csv") for path in sorted(run.folder.glob("*-cells.csv"))]
    return [path for stem in stems for suffix in (".png", ".svg") if (path := run.folder / f"{stem}{suffix}").is_file()]


def _map_of_kept_pairs(run: Run) -> list[Block]:
    """The pairs of the run's first image at the order next to the middle. A run keeps no pixels, so the cells are
    blank."""
    units, images = sorted((run.folder / "pairs").glob("unit-*.parquet")), run.record.get("images") or []
    orders = run.record.get("orders") or []
    if not units or not images or not orders:
        return []
    middle = min(orders, key=lambda one: abs(one["ratio"] - 0.5))
    pairs = pd.read_parquet(units[0])
    pairs = pairs[(pairs["image"] == images[0]["image"]) & (pairs["order"] == middle["order"])]
    if pairs.empty:
        return []
    side, value = run.record["settings"]["grid"], run.record["settings"]["value"].replace("_", "-")
    words = (
        f"{run.name}: pairs of {images[0]['name']} at order {middle['order']} (ratio {middle['ratio']:g}). "
        "The run keeps no pixels, so the cells are blank."
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "map.png"
        blank = np.ones((2 * side, 2 * side, 3))
        cells, strength = pairs[["i", "j"]].to_numpy(), pairs["mean"].to_numpy()
        draw_pair_map(blank, side, cells, strength, path, standard_errors=pairs["standard_error"], unit=value)
        return [Picture(path.read_bytes(), words, words)]


def _facts(run: Run) -> dict[str, str]:
    """The card's lines: what is known of them."""
    record = run.record
    model, data, settings = (_mapping(record.get(key), "name") for key in ("model", "data", "settings"))
    network, source = _mapping(settings.get("network"), "model"), _mapping(settings.get("data"), "name")
    machine = _mapping(record.get("machine"), "processor")
    versions = record.get("versions") or {}
    images = record.get("images")
    epochs, step = record.get("epochs"), record.get("step")
    keys = ("grid", "radius", "value", "baseline", "target", "design", "budget", "method", "seed")
    facts = {
        "command": record.get("command"),
        "model": model.get("name") or network.get("model"),
        "parameters": f"{model['parameters']:,}" if "parameters" in model else None,
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
