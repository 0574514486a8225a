"""Interaction strength by order: curves, middle masses and their differences."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from figures.curves import MEASURES, MIDDLE, PRIMARY, RELATIVE, band_words, hollow_words, left_out, read_strength
from figures.game import FILTER, GAME, RAW, UNUSUAL, unlike_games
from figures.page.blocks import Block, Chart, Charts, Curve, Fold, Rows, Section
from figures.runs import Facets, Run, alike, grid_words, output_words, unit_words, unlike
from figures.sections.common import MASS, curve, in_words, narrow, read
from figures.words import baseline_in_words, data_in_words

TABLE = "strength.csv"
MOST_PAIRED = 20  # runs that measured alike, of which every two are compared
ORDER_AXIS = "order ratio m / (n − 2)"
CHANCE = "One in twenty intervals leaves out the true value by chance, and more than one where many are looked at."
SAID: Facets = {name: of for name, of in GAME.items() if name not in FILTER} | {"images": UNUSUAL["images"]}
"""What charts say that their runs have alike; that all images count goes without saying."""


def profile_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """The profiles, those together that measured alike (grid, output, baseline, pairs, data, target, orders,
    filter)."""
    groups: list[list[Run]] = []
    for run in runs:
        if not run.holds(TABLE):
            continue
        like = next((group for group in groups if not unlike([group[0], run], GAME)), None)
        if like is None:
            groups.append([run])
        else:
            like.append(run)
    return groups


def summary_blocks(runs: Sequence[Run], differences: pd.DataFrame | None) -> list[Block]:
    """Of every group of profiles that measured alike: M of each, one chart of all, and what M differs by; and what sets
    the groups apart."""
    groups, blocks = profile_groups(runs), list[Block]()
    for group in groups:
        title = ground_of(group[0]) if len(groups) > 1 else ""
        if len(masses := masses_of(group)):
            chosen = masses[masses["measure"] == PRIMARY]
            blocks.append(narrow(chosen, ["run"], "M", 1.0, f"{MASS}{f', {title}' if title else ''}"))
        tables = tables_of(group, (PRIMARY,))
        charts = [strength_chart(tables, PRIMARY, "")]
        caption = [
            f"Shaded: order ratios {MIDDLE[0]} to {MIDDLE[1]}, whose mean is M.",
            band_words(list(tables.values()), (PRIMARY,), "Bars"),
            alike(group, SAID),
            unlike_games(group),
        ]
        blocks.append(Charts(charts, " ".join(filter(None, caption)), title))
        paired, words = differences_of(group, differences)
        if len(paired):
            chosen = paired[paired["measure"] == PRIMARY]
            blocks += [narrow(chosen, ["run_a", "run_b"], "difference", 0.0, words), CHANCE]
    if words := unlike([run for group in groups for run in group], GAME):
        blocks.append(f"What was not measured alike: {words[0].lower()}{words[1:]}")
    return blocks


def profile_section(runs: Sequence[Run], differences: pd.DataFrame | None = None) -> Section:
    """J by order of every profile by every measure, M, and the differences of M; profiles that measured alike share
    charts."""
    groups, blocks = profile_groups(runs), list[Block]()
    if len(groups) > 1:
        blocks.append("Only runs that measured alike share charts; these runs make up several groups.")
    for group in groups:
        blocks += _profile_blocks(group, differences, ground_of(group[0]) if len(groups) > 1 else "")
    return Section("Interaction strength by order", blocks, folded=True)


def strength_chart(tables: dict[str, pd.DataFrame], measure: str, unit: str) -> Chart:
    """One measure of all runs against the order."""
    kind, quantity, scale = MEASURES[measure]
    relative = measure in RELATIVE
    words = f"{quantity[0].upper()}{quantity[1:]}, {kind} ({scale.format(v=unit)})"
    curves = [_strength_curve(name, rows, measure) for name, rows in tables.items()]
    shade, symbol = (MIDDLE, "J") if relative else (None, "A")
    return Chart(words, ORDER_AXIS, curves, "order ratio", symbol, shade, relative, not relative)


def tables_of(group: Sequence[Run], measures: Sequence[str]) -> dict[str, pd.DataFrame]:
    """strength.csv of each run."""
    return {run.name: read_strength(run.table(TABLE), measures, f"the strength table of {run.name}") for run in group}


def masses_of(group: Sequence[Run]) -> pd.DataFrame:
    """run, measure, M with its interval, images."""
    tables = [
        rows.assign(run=name)
        for name, rows in read(group, "middle_mass.csv", ["M", "M_low", "M_high", "images"], ["measure"]).items()
    ]
    columns = ["run", "measure", "M", "M_low", "M_high", "images"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def differences_of(group: Sequence[Run], differences: pd.DataFrame | None) -> tuple[pd.DataFrame, str]:
    """The differences between runs of the group, and what they are; of a large group those to its first run alone, for
    the number of pairs grows with the square of that of the runs."""
    words = "Differences of M (run A less run B), paired over the images that both hold"
    if differences is None:
        return pd.DataFrame(), words
    names = [run.name for run in group]
    found = differences[differences["run_a"].isin(names) & differences["run_b"].isin(names)]
    if len(group) <= MOST_PAIRED or found.empty:
        return found, words
    pairs = found[["run_a", "run_b"]]
    first = next(name for name in names if (pairs == name).to_numpy().any())
    few = f"to the first run, {first}, alone: {len(group)} runs have {len(group) * (len(group) - 1) // 2:,} pairs"
    return found[(pairs == first).any(axis=1)], f"{words}; {few}"


def ground_of(run: Run) -> str:
    """What tells a group of profiles from the others, for its title."""
    settings, data = run.record.get("settings") or {}, run.record.get("data")
    facts = [f"{grid_words(run.record)}{' grid' * isinstance(settings['grid'], int)}"] if "grid" in settings else []
    facts += [output_words(run.record)] if "value" in settings else []
    facts += [baseline_in_words(str(settings["baseline"]))] if "baseline" in settings else []
    facts += ["correct ones alone"] * bool(settings.get("only_correct"))
    facts += [data_in_words(str(data["name"]))] if isinstance(data, dict) and data.get("name") else []
    return ", ".join(facts)


def _profile_blocks(group: list[Run], differences: pd.DataFrame | None, title: str) -> list[Block]:
    measures = (*RELATIVE, "rms")
    tables = tables_of(group, measures)
    unit = unit_words(group[0].record)
    charts = [strength_chart(tables, measure, unit) for measure in measures]
    caption = [
        alike(group, SAID),
        band_words(list(tables.values()), measures, "Bars"),
        hollow_words(list(tables.values())),
        f"Shaded: order ratios {MIDDLE[0]} to {MIDDLE[1]}, whose mean J is the middle mass M.",
        unlike_games(group, GAME | RAW),  # the raw curve is among them
        *(sentence for name, rows in tables.items() for sentence in left_out(rows, RELATIVE, of=f" of {name}")),
    ]
    blocks: list[Block] = [Charts(charts, " ".join(filter(None, caption)), title)]
    if len(masses := masses_of(group)):
        blocks.append(Rows("Middle mass M: mean of J over the shaded orders", in_words(masses), "M", 1.0))
    paired, words = differences_of(group, differences)
    if len(paired):
        blocks += [Rows(words, in_words(paired), "difference", 0.0), CHANCE]
    every = pd.concat([rows.assign(run=name) for name, rows in tables.items()], ignore_index=True)
    columns = ["run", "order", "ratio", "images", *(f"{m}{end}" for m in measures for end in ("", "_low", "_high"))]
    blocks.append(Fold("The numbers of these curves", [Rows("Strength by order", every[columns])]))
    return blocks


def _strength_curve(name: str, rows: pd.DataFrame, measure: str) -> Curve:
    near = np.where(rows["near_floor"], ", near the numerical floor", "")
    notes = [f"order {m}, {n} images{words}" for m, n, words in zip(rows["order"], rows["images"], near, strict=True)]
    return curve(name, rows, "ratio", measure, notes, f"{measure}_low", f"{measure}_high", rows["near_floor"].tolist())
