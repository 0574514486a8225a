"""Figure 6, and the middle masses of a study."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from figures import fig6, middle_mass
from figures.runs import open_runs
from figures.style import grey_look, look
from tests.figures.made_up import masses_table, sweep_table, write_run
from tests.figures.readable import assert_readable
from tests.figures.test_curves import caption, seen

MEASURES = ("J_rms", "J_corrected", "J")


def of(draw, folder: Path, name: str, table: pd.DataFrame, **options):
    return draw(open_runs([write_run(folder / f"{len(list(folder.iterdir()))}", {name: table})]), **options)


def test_bars_are_means_and_points_seeds_in_the_order_of_the_table(tmp_path: Path):
    table = sweep_table()
    drawn = of(fig6.draw, tmp_path, "token_position.csv", table)
    assert [axes.get_title("left") for axes in seen(drawn.figure)[:2]] == ["ViT", "CNN"]
    for axes, network in zip(seen(drawn.figure)[:2], ("vit", "cnn"), strict=True):
        rows = table[table["network"] == network]
        means = rows.groupby("position", sort=False)["top1"].mean()
        names = {"vit": ["patch embedding", "block 1", "block 2"], "cnn": ["stem", "stage 1"]}[network]
        assert [text.get_text() for text in axes.get_yticklabels()] == names
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], means)
        places = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
        np.testing.assert_allclose(axes.get_yticks(), places)
        np.testing.assert_allclose(np.concatenate([line.get_xdata() for line in axes.lines]), rows["top1"])
        ends = [bars_.get_segments()[0][:, 0] for bars_ in axes.collections]
        for (_, some), end in zip(rows.groupby("position", sort=False)["top1"], ends, strict=True):
            wanted = stats.t.interval(0.95, 2, some.mean(), some.std() / np.sqrt(3))
            np.testing.assert_allclose(end, wanted)
    words = caption(drawn.figure)
    assert "points: 3 seeds" in words and "Student's 95 % interval" in words
    shown = [text.get_text() for text in seen(drawn.figure)[0].texts]
    means = table[table["network"] == "vit"].groupby("position", sort=False)["top1"].mean()
    assert shown == [f"{mean:.1f}" for mean in means]
    assert_readable(drawn.figure)


def test_two_seeds_have_no_interval_and_the_axis_goes_from_0_to_100(tmp_path: Path):
    drawn = of(fig6.draw, tmp_path, "token_position.csv", sweep_table(2))
    assert "No interval: that takes 3 seeds." in caption(drawn.figure)
    assert not any(np.size(bar.get_segments()) for bar in seen(drawn.figure)[0].collections)
    assert seen(drawn.figure)[0].get_xlim() == (0, 100)


def test_a_sweep_that_cannot_be_drawn_is_refused(tmp_path: Path):
    table = sweep_table()
    with pytest.raises(ValueError, match="holds vit, patch_embed, seed 0 twice"):
        of(fig6.draw, tmp_path, "token_position.csv", pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ValueError, match="lacks the column top1"):
        of(fig6.draw, tmp_path, "token_position.csv", table.drop(columns="top1"))
    with pytest.raises(ValueError, match="has no accuracy yet"):
        of(fig6.draw, tmp_path, "token_position.csv", table.assign(top1=np.nan))
    with pytest.raises(ValueError, match=r"lacks token_position.csv \(of `python -m experiments\.studies\.\w+`\)"):
        of(fig6.draw, tmp_path, "other.csv", table)


def test_sweeps_of_other_epochs_are_not_seeds_of_one_bar(tmp_path: Path):
    table = sweep_table(2).assign(pretrain_epochs=2, epochs=2)
    more = table.assign(seed=table["seed"] + 2)

    def drawn(other: pd.DataFrame):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folders = [write_run(folder / f"{k}", {fig6.TABLE: each}) for k, each in enumerate((table, other))]
        return caption(fig6.draw(open_runs(folders)).figure)

    assert "points: 4 seeds" in drawn(more) and "points: 4 seeds" in drawn(more.drop(columns="epochs"))
    with pytest.raises(ValueError, match=r"the sweeps of vit differ in epochs \(2: .*0; 9: .*1\): draw one folder"):
        drawn(more.assign(epochs=9))
    drawn(more[more["network"] == "vit"].assign(network="other", epochs=9))


def test_masses_of_one_set_up_in_two_folders_are_refused(tmp_path: Path):
    table = masses_table(1)
    cnn, vit, more = (table[table["network"] == name] for name in ("cnn", "vit", "vit"))
    folders = [
        write_run(tmp_path / str(k), {"masses.csv": each}) for k, each in enumerate((cnn, vit, more.assign(seed=7)))
    ]
    assert len(seen(middle_mass.draw(open_runs(folders[:2])).figure)) >= 4
    with pytest.raises(ValueError, match=r"vit, fine-tuned log_odds stands in .*1 and in .*2, and their images"):
        middle_mass.draw(open_runs(folders))


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_mass_is_drawn_with_its_interval_and_the_mean_of_the_seeds(tmp_path: Path, seeds: int):
    table = masses_table(seeds)
    drawn = of(middle_mass.draw, tmp_path, "masses.csv", table)
    panels = seen(drawn.figure)[:4]
    assert [axes.get_title("left") for axes in panels][:2] == [
        "ViT\nfine-tuned, log-odds",
        "ViT\nfrozen, cosine similarity",
    ]
    methods = ["untrained", "supervised", "a2mim"]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == methods
    groups = table.groupby(["network", "setup"], sort=False)
    for axes, (_, rows) in zip(panels, groups, strict=True):
        for colour, measure in zip((look(0).colour, look(1).colour, grey_look(2).colour), MEASURES, strict=True):
            some = rows[rows["measure"] == measure]
            lines = [line for line in axes.lines if line.get_gid() == f"seeds of {measure}"]
            assert {line.get_color() for line in lines} == {colour}
            np.testing.assert_allclose(np.concatenate([line.get_xdata() for line in lines]), some["M"])
            rows_of = np.abs(np.concatenate([line.get_ydata() for line in lines])[:, None] - panels[0].get_yticks())
            assert rows_of.argmin(axis=1).tolist() == sorted([0, 1, 2] * seeds)
            found = [each for each in axes.collections if each.get_gid() == f"interval of {measure}"]
            ends = np.concatenate([np.array(each.get_segments())[:, :, 0] for each in found])
            np.testing.assert_allclose(ends, some[["M_low", "M_high"]])
            means = [line.get_xdata()[0] for line in axes.lines if line.get_gid() == f"mean of {measure}"]
            np.testing.assert_allclose(means, some.groupby("method", sort=False)["M"].mean() if seeds > 1 else [])
    assert len({axes.get_xlim() for axes in panels}) == 1
    assert_readable(drawn.figure)
    words = caption(drawn.figure)
    assert "100 images" in words and ("3 seeds" in words) == (seeds == 3) and ("One seed" in words) == (seeds == 1)


def test_the_networks_without_order_0_are_named(tmp_path: Path):
    table = masses_table(1)
    some = table.assign(least_ratio=np.where(table["network"] == "vit", 0.05, 0.0))
    for rows, words in (
        (table, "the mean over all orders. Bars"),
        (some, "all orders, of a ViT over the orders above 0."),
    ):
        assert words in " ".join(caption(of(middle_mass.draw, tmp_path, "masses.csv", rows).figure).split())


def test_a_missing_mass_is_said_and_bad_tables_are_refused(tmp_path: Path):
    table = masses_table(1)
    gone = table.copy()
    gone.loc[0, ["M", "M_low", "M_high"]] = np.nan
    drawn = of(middle_mass.draw, tmp_path, "masses.csv", gone)
    assert "Missing: ViT, fine-tuned, log-odds, untrained, raw, as published." in caption(drawn.figure)
    with pytest.raises(ValueError, match="hold vit, fine-tuned log_odds, untrained, seed 0 twice"):
        of(middle_mass.draw, tmp_path, "masses.csv", pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ValueError, match="lacks the columns M_low, setup"):
        of(middle_mass.draw, tmp_path, "masses.csv", table.drop(columns=["setup", "M_low"]))


def test_more_set_ups_stand_two_in_a_line_and_what_a_page_does_not_hold_is_named(tmp_path: Path):
    table = masses_table(1)
    dropped = table.assign(setup=table["setup"] + " drop")
    some = pd.concat([table, dropped])
    drawn = of(middle_mass.draw, tmp_path, "masses.csv", some[some["network"] == "vit"])
    titles = [axes.get_title("left") for axes in seen(drawn.figure)[:4]]
    assert titles[2:] == ["ViT\nfine-tuned, log-odds, drop", "ViT\nfrozen, cosine similarity, drop"]
    assert_readable(drawn.figure)
    many = pd.concat([some.assign(method=some["method"] + f" {k}") for k in range(3)])
    drawn = of(middle_mass.draw, tmp_path, "masses.csv", many)
    assert len([axes for axes in seen(drawn.figure) if "drop" in axes.get_title("left")]) < 4
    assert "Not on this page, but in the table:" in caption(drawn.figure)
    assert_readable(drawn.figure)


def test_a_network_has_rows_of_its_own_methods_alone(tmp_path: Path):
    table = masses_table(1)
    fewer = table[(table["network"] == "vit") | (table["method"] == "a2mim")]
    fewer = fewer[(fewer["method"] != "supervised") | (fewer["setup"] == "frozen cosine")]
    drawn = of(middle_mass.draw, tmp_path, "masses.csv", fewer)
    vit, _, cnn, _ = seen(drawn.figure)[:4]
    assert [text.get_text() for text in vit.get_yticklabels()] == ["untrained", "a2mim", "supervised"]
    assert [text.get_text() for text in cnn.get_yticklabels()] == ["a2mim"]
    assert [text.get_text() for text in vit.texts] == ["–"] and not cnn.texts  # not measured in this set-up
    assert_readable(drawn.figure)


def test_masses_without_intervals_are_said_to_have_none(tmp_path: Path):
    table = masses_table(1).assign(M_low=np.nan, M_high=np.nan, images=4)
    words = caption(of(middle_mass.draw, tmp_path, "masses.csv", table).figure)
    assert "No intervals: fewer than eight images." in words and "Bars" not in words


@pytest.mark.filterwarnings("error")
def test_masses_that_are_all_missing_have_an_axis(tmp_path: Path):
    table = masses_table(1)
    table[["M", "M_low", "M_high"]] = np.nan
    low, high = seen(of(middle_mass.draw, tmp_path, "masses.csv", table).figure)[0].get_xlim()
    assert low < 1 < high


def test_masses_of_unknown_images_or_measures(tmp_path: Path):
    table = masses_table(1)
    words = caption(of(middle_mass.draw, tmp_path, "masses.csv", table.assign(images=np.nan)).figure)
    assert "over an unknown number of images" in words
    with pytest.raises(ValueError, match="has none of J_rms, J_corrected, J, so there is nothing to draw"):
        of(middle_mass.draw, tmp_path, "masses.csv", table.assign(measure="K"))
