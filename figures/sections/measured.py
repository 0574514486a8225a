"""Occlusion, spectra and losses: what else was measured of networks and trainings."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from figures.depth import FACETS as DEPTH_FACETS
from figures.fig1 import OCCLUSION_FACETS
from figures.occlusion import KINDS
from figures.page.blocks import Block, Chart, Charts, Curve, Fold, Section
from figures.runs import Run
from figures.sections.common import curve, read, shared_name, spread, unlike_in
from figures.spectrum import NUMBERS
from figures.training import read_log

MOST_POINTS = 40  # of a loss curve
MOST_BLOCKS, MOST_FREQUENCIES = 5, 17  # of one model's spectra
PER_CENT = (0.0, 100.0)


def occlusion_section(runs: Sequence[Run]) -> Section:
    """Accuracy against the share of cells that were dropped, and against the grid that was shuffled."""
    columns = ["top1", "low", "high", "images", "seeds"]
    dropped = read(runs, "occlusion.csv", ["share", *columns], ["kind"])
    shuffled = read(runs, "shuffling.csv", ["grid", *columns], [])
    kinds = dict.fromkeys(str(kind) for rows in dropped.values() for kind in rows["kind"])
    charts = [occlusion_chart(dropped, kind) for kind in kinds]
    if shuffled:
        ordered = {name: rows.sort_values("grid") for name, rows in shuffled.items()}
        curves = [curve(name, rows, "grid", "top1", _counts(rows)) for name, rows in ordered.items()]
        title = "Top-1 accuracy (%), cells shuffled"
        charts.append(Chart(title, "cells along a side", curves, "grid", "top-1", limits=PER_CENT))
    words = ["Bars: 95 % intervals over images.", unlike_in(runs, "occlusion.csv", OCCLUSION_FACETS)]
    caption = " ".join(filter(None, words))
    return Section("Occlusion and shuffling", [Charts(charts, caption)] if charts else [], folded=True)


def occlusion_chart(tables: dict[str, pd.DataFrame], kind: str) -> Chart:
    """Accuracy of all runs against the share of cells of one kind that were dropped."""
    curves = [
        curve(name, chosen, "share", "top1", _counts(chosen))
        for name, rows in tables.items()
        if len(chosen := rows[rows["kind"] == kind].sort_values("share"))
    ]
    title = f"Top-1 accuracy (%), dropped: {KINDS.get(kind, kind)}"
    return Chart(title, "share of cells dropped", curves, "share", "top-1", limits=PER_CENT)


def spectrum_section(runs: Sequence[Run]) -> Section:
    """What each depth of the networks passes on: high frequencies and variance; the whole spectra fold out."""
    spectra = read(runs, "spectrum.csv", [*NUMBERS, "frequency", "log_amplitude"], ["name", "kind"])
    variances = read(runs, "variance.csv", [*NUMBERS, "variance"], ["name", "kind"])
    charts, folds = [], list[Block]()
    if spectra:
        charts.append(frequency_chart(spectra))
        folds += [Fold(f"Spectra of {name} by block", [_spectra_of(name, rows)]) for name, rows in spectra.items()]
    if variances:
        charts.append(variance_chart(variances))
    words = ["Bars: 95 % bootstrap intervals over images.", unlike_in(runs, "spectrum.csv", DEPTH_FACETS)]
    caption = " ".join(filter(None, words))
    return Section("Spectrum by depth", [Charts(charts, caption), *folds] if charts else [], folded=True)


def frequency_chart(tables: dict[str, pd.DataFrame]) -> Chart:
    """The highest frequency of every map by depth."""
    curves = []
    for name, rows in tables.items():
        highest = rows[rows["frequency"] == rows.groupby("block")["frequency"].transform("max")].sort_values("depth")
        curves.append(curve(name, highest, "depth", "log_amplitude", _block_words(highest)))
    title = "Log amplitude of the highest frequency, relative to frequency 0"
    return Chart(title, "normalised depth", curves, "depth", "log amplitude")


def variance_chart(tables: dict[str, pd.DataFrame]) -> Chart:
    """The variance of every map by depth."""
    ordered = {name: rows.sort_values("depth") for name, rows in tables.items() if len(rows)}
    curves = [curve(name, rows, "depth", "variance", _block_words(rows)) for name, rows in ordered.items()]
    return Chart("Variance of the features", "normalised depth", curves, "depth", "variance", None, True)


def loss_section(runs: Sequence[Run]) -> Section:
    """The loss of every training run; only runs of one method and command share a chart, as losses differ in kind."""
    kinds: dict[str, list[Curve]] = {}
    for run in runs:
        if not run.holds("log.jsonl"):
            continue
        settings = run.record.get("settings") or {}
        kind = " ".join(filter(None, [str(run.record.get("command", "training")), str(settings.get("method", ""))]))
        log = read_log(run.table("log.jsonl")).drop_duplicates("step", keep="last").sort_values("step")
        kinds.setdefault(kind, []).append(_loss_curve(run.name, log))
    charts = [Chart(f"Loss: {kind}", "step", curves, "step", "loss") for kind, curves in kinds.items()]
    caption = f"Each point is the mean of neighbouring entries of the log, {MOST_POINTS} points at most."
    return Section("Training", [Charts(charts, caption)] if charts else [], folded=True)


def _counts(rows: pd.DataFrame) -> list[str]:
    return [f"{row.images} images, {row.seeds} seeds" for row in rows.itertuples()]


def _block_words(rows: pd.DataFrame) -> list[str]:
    return [f"block {row.block} {row.name} ({row.kind}), {row.images} images" for row in rows.itertuples(index=False)]


def _spectra_of(name: str, rows: pd.DataFrame) -> Charts:
    blocks = sorted(rows["block"].unique())
    kept = spread(blocks, MOST_BLOCKS)
    curves = []
    for block in kept:
        chosen = rows[rows["block"] == block].sort_values("frequency")
        chosen = chosen.iloc[spread(range(len(chosen)), MOST_FREQUENCIES)]  # a coarse map has few, at places of its own
        first = chosen.iloc[0]
        label = f"{first['name']} ({first['kind']}, depth {first['depth']:.2f})"
        notes = [f"{images} images" for images in chosen["images"]]
        curves.append(curve(label, chosen, "frequency", "log_amplitude", notes))
    title = f"{name}: log amplitude, relative to frequency 0"
    chart = Chart(title, "frequency / π", curves, "frequency", "log amplitude")
    words = f"Drawn: {len(kept)} of {len(blocks)} blocks." if len(kept) < len(blocks) else ""
    return Charts([chart], words)


def _loss_curve(name: str, log: pd.DataFrame) -> Curve:
    parts = [log.iloc[rows] for rows in np.array_split(np.arange(len(log)), min(len(log), MOST_POINTS))]
    notes = [f"learning rate {part['lr'].iloc[-1]:.3g}" for part in parts]
    steps = [float(part["step"].iloc[-1]) for part in parts]
    losses = [float(part["loss"].mean()) for part in parts]
    return Curve(name, steps, losses, notes=notes, legend=shared_name(name))
