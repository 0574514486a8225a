"""What a profile's folder holds: its record, its rows, and the tables of the curve that come of them."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from interactions.intervals import RESAMPLES
from interactions.levels import with_levels
from interactions.looks import merged, merged_pairs
from interactions.masses import in_middle, middle_mass
from interactions.runs.results import Results, load
from interactions.strength import some, strength_table


@dataclass(frozen=True)
class Profile(Results):
    """What a profile measured so far. `record` is its run.json."""

    def images(self) -> pd.DataFrame:
        """One row per (image, order): image, order, ratio, design, passes, and the columns of `image_row`."""
        return merged(self.looks())

    def looks(self) -> pd.DataFrame:
        """As `images`, with a row for each look at an image that was measured several times (`interactions.looks`)."""
        return self.rows("images")

    def pairs(self) -> pd.DataFrame:
        """One row per (image, order, pair): image, order, i, j, count, mean, standard_error, half_1, half_2. What
        several looks at an image tell of a pair is one row, by their draws.

        Raises:
            ValueError: a run that kept images only.
        """
        if self.settings["keep"] != "pairs":
            raise ValueError(f"{self.folder} kept no pairs: measure again with keep = pairs")
        return merged_pairs(self.rows("pairs"))

    def strength(self, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
        """One row per order: order, ratio, images, pairs, design, passes, floor, near_floor, then every measure with
        its 95 % interval over images (see `strength_table`), rms_note, interval_note and baseline."""
        looks = some(self.looks())
        images = merged(looks)
        floors = {one["order"]: one["floor"] for one in self.record["orders"] if one["floor"] is not None}
        table = strength_table(images, resamples=resamples, seed=seed, floors=floors).set_index("order", drop=False)
        by_order = with_levels(looks, self.record).groupby("order")
        table.insert(4, "design", by_order.design.agg(lambda names: "+".join(sorted(set(names)))))
        table.insert(5, "passes", by_order.passes.sum())
        table.insert(7, "near_floor", table.pop("near_floor"))
        return table.reset_index(drop=True).assign(baseline=self.settings["baseline"])

    def middle_mass(self, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
        """M = mean of J over the listed ratios 0.3 to 0.7; no rows where none is listed."""
        images = some(self.images())
        if not any(map(in_middle, images.ratio)):
            return pd.DataFrame(columns=["measure", "M", "M_low", "M_high", "images", "baseline"])
        masses = middle_mass(images, resamples=resamples, seed=seed)
        return masses.assign(baseline=self.settings["baseline"])


def load_profile(folder: str | Path) -> Profile:
    """The profile in a folder, finished or not.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a run.json that is not a profile's.
    """
    return load(Profile, folder, "profile", "profile")
