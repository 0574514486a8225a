"""The table of `a2mim linear`: a row for each head and seed, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats

from a2mim.evaluate.attentive import attentive_probe
from a2mim.evaluate.linear import Probe, linear_probe
from experiments.training.frozen import Features, wilson_interval, write_record

Row = dict[str, Any]


def probe_all(
    settings: Any, seeds: Sequence[int], trains: Sequence[Features], test: Features, device: torch.device
) -> list[Row]:
    """Train the heads that are asked for with each seed; top1_low and top1_high are Wilson's 95 % interval over images.

    Raises ValueError as the probes do.
    """
    rows = []
    for seed, train in zip(seeds, trains, strict=True):
        for head in ("linear", "attentive") if settings.head == "attentive" else ("linear",):
            found = probe_once(settings, head, seed, train, test, device)
            interval = wilson_interval(found["top1"], len(test.target_N))
            rows.append({"head": head, "seed": seed, "train_images": len(train.target_N), **found, **interval})
    return rows


def probe_once(
    settings: Any, head: str, seed: int, train: Features, test: Features, device: torch.device
) -> dict[str, Any]:
    """What `linear_probe` or `attentive_probe` returns."""
    lrs = settings.lrs if head == "linear" else settings.attentive_lrs
    probe = Probe(settings.epochs, settings.batch, lrs, settings.weight_decay, seed)
    if head == "linear":
        return linear_probe(*train.pair, *test.pair, probe, device)
    tokens = (train.views_N[1], train.target_N, test.views_N[1], test.target_N)
    return attentive_probe(*tokens, probe, device, settings.queries, settings.heads)


def summary(rows: Sequence[Row]) -> Row:
    """The one row of a head; of several seeds the mean accuracies, with Student's 95 % interval over seeds."""
    if len(rows) == 1:
        return {name: value for name, value in rows[0].items() if name not in ("head", "seed", "train_images")}
    top1 = np.array([row["top1"] for row in rows])
    half = stats.t.ppf(0.975, len(rows) - 1) * top1.std(ddof=1) / np.sqrt(len(rows))
    low, high = max(0.0, top1.mean() - half), min(100.0, top1.mean() + half)
    top5 = float(np.mean([row["top5"] for row in rows]))
    return {"top1": float(top1.mean()), "top5": top5, "top1_low": float(low), "top1_high": float(high)}


def conclude(settings: Any, about: Row, rows: Sequence[Row], train: Features, test: Features) -> None:
    """Write linear.json, and say for each head what was reached."""
    by_head = {head: summary([row for row in rows if row["head"] == head]) for head in ("linear", settings.head)}
    record = {**about, **by_head[settings.head], "heads": by_head, "table": list(rows)}
    write_record(settings, "linear", record, train, test)
    over = f", mean of {settings.seeds} seeds" if settings.seeds > 1 else ""
    for head, found in by_head.items():
        between = f"[{found['top1_low']:.2f}, {found['top1_high']:.2f}]"
        print(
            f"{head}: top-1 {found['top1']:.2f} % {between}, top-5 {found['top5']:.2f} % on {len(test.target_N)} "
            f"images, {len(train.target_N)} labelled{over}"
        )
    print(f"wrote {settings.out}")
