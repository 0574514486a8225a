"""What is reached on other tasks, and whether M tells it: drawn lines against the tables."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from figures import prediction, transfer
from figures.runs import open_runs
from tests.figures.made_up import transfer_tables, write_run
from tests.figures.readable import assert_readable
from tests.figures.test_curves import caption, seen


def of(draw, folder, tables, **options):
    return draw(open_runs([write_run(folder / f"{len(list(folder.iterdir()))}", tables)]), **options)


def drawn_values(axes):
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_gid() == "value"]


def test_values_differences_and_m_stand_in_rows(tmp_path):
    tables = transfer_tables()
    table = tables["transfer.csv"]
    drawn = of(transfer.draw, tmp_path, tables)
    values, apart, top1, mass = seen(drawn.figure)
    dense, probes = table[table["task"] == "segment"], table[table["task"] == "linear"]
    assert drawn_values(values) == list(dense["value"]) and drawn_values(apart) == list(dense["difference"].dropna())
    assert drawn_values(top1) == list(probes["value"]) and drawn_values(mass) == list(probes["M"])
    bars = [bar.get_segments()[0][:, 0] for bar in values.collections if bar.get_gid() == "interval"]
    np.testing.assert_allclose(bars, dense[["low", "high"]])
    names = [text.get_text().replace("\n", " ") for text in values.get_yticklabels()]
    assert names[1] == "ImageNet: linear, frozen" and names[2] == "random: FPN, fine-tuned"
    assert [text.get_text() for text in top1.get_yticklabels()] == [f"net {k}" for k in range(5)]
    assert [text.get_text() for text in apart.texts].count("compared with") == 2
    assert values.get_title("left") == "CamVid 320" and values.get_xlabel() == "mIoU (%)"
    assert "101 to 10000 pictures" in caption(drawn.figure)
    assert "relative strength J (rms) over the order ratios" in caption(drawn.figure)
    tables["transfer.csv"] = table.assign(M_measure="J")
    assert "relative strength J (raw) over the order" in caption(of(transfer.draw, tmp_path, tables).figure)
    assert "M: of J (raw)." in caption(of(prediction.draw, tmp_path, tables).figure)
    assert "of the backbone; its bars are over the images of its profile." in caption(drawn.figure)


@pytest.mark.rendered
def test_both_can_be_read(tmp_path):
    for draw in (transfer.draw, prediction.draw):
        assert_readable(of(draw, tmp_path, transfer_tables()).figure)


@pytest.mark.rendered
def test_a_long_set_up_stands_in_two_lines(tmp_path):
    """It ended beyond the figure."""
    setup = "attentive, 5,000 training images, 20 % of the labels, mean of 3 seeds"
    tables = {name: table.replace({"attentive": setup}) for name, table in transfer_tables().items()}
    drawn = of(prediction.draw, tmp_path, tables)
    (axes,) = seen(drawn.figure)
    assert axes.get_title("left").split("\nρ")[0].replace("\n", " ") == f"CIFAR-10 test, {setup}"
    assert_readable(drawn.figure)


def test_points_are_m_against_the_value_and_the_title_their_ranks(tmp_path):
    tables = transfer_tables()
    drawn = of(prediction.draw, tmp_path, tables)
    (axes,) = seen(drawn.figure)
    rows = tables["transfer.csv"].dropna(subset=["M"])
    (points,) = [line for line in axes.lines if line.get_gid() == "runs"]
    np.testing.assert_allclose(points.get_xydata(), rows[["M", "value"]])
    ends = {bar.get_gid(): np.array(bar.get_segments()) for bar in axes.collections}
    np.testing.assert_allclose(ends["interval of M"][:, :, 0], rows[["M_low", "M_high"]])
    np.testing.assert_allclose(ends["interval of value"][:, :, 1], rows[["low", "high"]])
    assert axes.get_title("left") == "CIFAR-10 test, attentive\nρ = 0.70 [−0.20, 1.00], p = 0.20, 5 runs"
    assert [prediction.p_in_words(p) for p in (0.5, 0.0034, 0.0)] == ["p = 0.50", "p = 0.003", "p < 0.0001"]


def test_one_task_ranked_in_two_folders_is_refused(tmp_path):
    tables = transfer_tables()
    other = {name: table.replace({"cifar10-test": "other"}) for name, table in tables.items()}
    one, two, three = (write_run(tmp_path / str(k), each) for k, each in enumerate((tables, other, tables)))
    drawn = prediction.draw(open_runs([one, two]))
    assert [axes.get_title("left").split(",")[0] for axes in seen(drawn.figure)] == ["CIFAR-10 test", "other"]
    with pytest.raises(ValueError, match=r"linear on cifar10-test \(attentive\) stands in .*0 and in .*2, each with"):
        prediction.draw(open_runs([one, three]))


def test_one_task_and_set_up_of_two_folders_is_refused(tmp_path):
    """Each had a row to compare with, and nobody knew whether the pictures are the same."""
    tables = transfer_tables()
    other = {name: table.replace({"cifar10-test": "other", "camvid-320": "more"}) for name, table in tables.items()}
    one, two, three = (write_run(tmp_path / str(k), each) for k, each in enumerate((tables, other, tables)))
    assert len(seen(transfer.draw(open_runs([one, two])).figure)) == 8
    said = r"segment on camvid-320 \(\w+, [\w-]+\) stands in .*0 and in .*2, each with a first run of its own"
    with pytest.raises(ValueError, match=said):
        transfer.draw(open_runs([one, three]))


def test_names_stand_beside_the_panel_and_points_called_alike_have_one_each():
    rows = pd.DataFrame({"run": [f"run {k % 11}" for k in range(12)], "M": np.arange(12) / 12, "value": 50.0})
    rows = rows.assign(M_low=rows["M"], M_high=rows["M"], low=rows["value"], high=rows["value"], measure="miou")
    for some in (rows[:4], rows):
        texts = prediction.plot_ranks(some, Figure().add_subplot()).texts
        assert [text.get_text() for text in texts] == list(some["run"])
        places = np.array([text.get_position() for text in texts])
        assert (places[:, 0] > 1).all() and len(set(places[:, 1])) == len(some)


def test_fewer_than_four_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="ranked from 4 runs of one task and set-up on, and there are fewer"):
        of(prediction.draw, tmp_path, transfer_tables(3))
    with pytest.raises(ValueError, match=r"lacks correlation.csv \(of `a2mim transfer`\)"):
        of(prediction.draw, tmp_path, {"transfer.csv": transfer_tables()["transfer.csv"]})
    table = transfer_tables()["transfer.csv"].assign(measure="pixel_accuracy")
    with pytest.raises(ValueError, match="has none of miou, box_ap, mask_ap, top1"):
        of(transfer.draw, tmp_path, {"transfer.csv": table})


LONG = [f"{network}-{method}-{seed}/linear.json" for network in ("cnn", "vit") for method in ("supervised", "a2mim")
        for seed in range(3)]  # fmt: skip
"""Names that a2mim transfer gives where none are typed."""


def renamed(count):
    """Probes of so many runs, close to each other."""
    tables = transfer_tables(count)
    table = tables["transfer.csv"]
    of_probes = table["task"] == "linear"
    table.loc[of_probes, "run"] = LONG[:count]
    for column, shift in (("value", 0), ("low", -1), ("high", 1)):
        table.loc[of_probes, column] = 60.0 + np.arange(count) % 3 + shift
    return tables


@pytest.mark.rendered
@pytest.mark.parametrize("count", [5, 12])
def test_the_panel_grows_until_long_names_fit_beside_it(tmp_path, count):
    drawn = of(prediction.draw, tmp_path, renamed(count))
    assert_readable(drawn.figure)
    (axes,) = seen(drawn.figure)
    assert ["".join(text.get_text().split()) for text in axes.texts] == LONG[:count]


def of_many(measures, setups, runs=5):
    """Probes of so many set-ups, each with all of these measures."""
    tables = {name: table[table["task"] == "linear"] for name, table in transfer_tables(runs).items()}
    pairs = [(setup, measure) for setup in setups for measure in measures]
    return {
        name: pd.concat([table.assign(setup=setup, measure=measure) for setup, measure in pairs])
        for name, table in tables.items()
    }


@pytest.mark.rendered
def test_leading_measures_come_first_and_the_caption_names_what_has_no_room(tmp_path):
    drawn = of(prediction.draw, tmp_path, of_many(["mean_accuracy", "miou"], ["linear, frozen", "fpn, frozen"]))
    assert_readable(drawn.figure)
    assert [(axes.get_title("left").split("\n")[0], axes.get_ylabel()) for axes in seen(drawn.figure)] == [
        ("CIFAR-10 test, linear, frozen", "mean accuracy (%)"),
        ("CIFAR-10 test, linear, frozen", "mIoU (%)"),
        ("CIFAR-10 test, FPN, frozen", "mIoU (%)"),
    ]
    assert "Not on this page, but in the table: CIFAR-10 test, FPN, frozen, mean accuracy." in caption(drawn.figure)


@pytest.mark.rendered
def test_set_ups_that_have_no_room_are_named_and_the_others_keep_their_names(tmp_path):
    drawn = of(transfer.draw, tmp_path, of_many(["top1"], ["linear", "attentive"], runs=18))
    assert_readable(drawn.figure)
    names = [text.get_text().replace("\n", " ") for text in seen(drawn.figure)[0].get_yticklabels()]
    assert names == [f"net {k}: linear" for k in range(18)]
    assert "Not on this page, but in the table: CIFAR-10 test, attentive, top-1." in caption(drawn.figure)


def test_compared_with_stands_only_beside_what_is_compared(tmp_path):
    tables = transfer_tables()
    table = tables["transfer.csv"]
    alone = table[(table["setup"] == "fpn, fine-tuned") & (table["run"] == "random")].assign(setup="upernet, frozen")
    tables["transfer.csv"] = pd.concat([table, alone], ignore_index=True)
    apart = seen(of(transfer.draw, tmp_path, tables).figure)[1]
    shown = [text.get_text() for text in apart.texts]
    assert [shown[k] for k in (0, 2, 4)] == ["compared with", "compared with", "–"]


def test_an_unknown_number_of_pictures_is_said(tmp_path):
    tables = transfer_tables()
    tables["transfer.csv"]["images"] = np.nan
    assert "over an unknown number of pictures" in caption(of(transfer.draw, tmp_path, tables).figure)
