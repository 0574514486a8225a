"""Tables such as a measuring run writes, with made-up but plausible numbers."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

RATIOS = np.array([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
NOTE = "mean square not above 0"


def strength_table(seed: int = 0, n: int = 196, floor: float = 1e-5, missing_rms: tuple[int, ...] = ()) -> pd.DataFrame:
    """A U-shaped strength, lifted in the middle by noise where it is raw; `missing_rms` are row numbers."""
    g = np.random.default_rng(seed)
    rms = 0.1 + (RATIOS - 0.45) ** 2 * (1 + 0.2 * g.random(RATIOS.size))
    rms[list(missing_rms)] = np.nan
    corrected = 0.08 + 0.75 * (RATIOS - 0.45) ** 2
    raw = np.hypot(corrected, 0.06 * RATIOS * (1 - RATIOS))
    measures = {
        "A": raw,
        "A_corrected": corrected,
        "rms": rms,
        "J": raw / raw.mean(),
        "J_corrected": corrected / corrected.mean(),
        "J_rms": rms / np.nanmean(rms),
        "mean_square": np.where(np.isnan(rms), -0.001, rms**2),
    }
    table = pd.DataFrame({"order": ((n - 2) * RATIOS).astype(int), "ratio": RATIOS, "images": 50, "floor": floor})
    table["near_floor"] = corrected < 10 * floor
    for name, values in measures.items():
        width = 0.04 * np.abs(values) * (1 + g.random(RATIOS.size))
        table[name], table[f"{name}_low"], table[f"{name}_high"] = values, values - width, values + width
    table["rms_note"] = np.where(np.isnan(rms), NOTE, "")
    return table


def texts(figure: Figure) -> list[str]:
    """Every text that is seen in the figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]  # type: ignore[attr-defined]
