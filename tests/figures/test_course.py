"""J of every state from light to dark, and M against the epochs: what the drawn lines hold against the table."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from figures.course import colours_of, draw
from figures.runs import open_runs
from figures.style import look
from tests.figures.made_up import course_table, record, texts, write_run
from tests.figures.readable import assert_readable
from tests.figures.test_curves import caption, seen


def courses(folder, names, panels=(), tables=None):
    tables = tables or [course_table(k) for k in range(len(names))]
    folders = [write_run(folder / f"{k}", {"course.csv": table}, record("course")) for k, table in enumerate(tables)]
    return open_runs(folders, names, panels)


def states(axes):
    """Epochs, colours and J of the lines of a panel."""
    lines = [line for line in axes.lines if (line.get_gid() or "").startswith("J_rms after")]
    epochs = [float(re.findall(r"[\d.]+(?= epochs)", line.get_gid())[0]) for line in lines]
    return epochs, [line.get_color() for line in lines], [line.get_ydata() for line in lines]


def mass(axes, k):
    (line,) = [each for each in axes.lines if each.get_gid() == "mean of M" and each.get_color() == look(k).colour]
    return np.array(line.get_data())


def brightness(colour):
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))


def test_every_state_is_a_line_from_light_to_dark_and_m_lies_below(tmp_path):
    runs = courses(tmp_path, ["supervised", "A²MIM"])
    drawn = draw(runs)
    above, below, masses = seen(drawn.figure)
    for k, axes in enumerate((above, below)):
        epochs, colours, curves = states(axes)
        table = course_table(k)
        assert epochs == pytest.approx(np.linspace(0, 3, 9)) and colours == colours_of(9)
        for epoch, curve in zip(epochs, curves, strict=True):
            np.testing.assert_allclose(curve, table[np.isclose(table["epoch"], epoch)]["J_rms"])
        rows = table.drop_duplicates("step")
        np.testing.assert_allclose(mass(masses, k), rows[["epoch", "M"]].to_numpy().T)
    grey = list(map(brightness, colours_of(9)))
    assert grey == sorted(grey, reverse=True) and 0.5 < grey[0] < 0.9 and grey[-1] < 0.2
    assert (above.get_title("left"), below.get_title("left")) == ("supervised", "A²MIM")
    assert above.get_ylim() == below.get_ylim() and above.get_ylim()[0] == 0
    (scale,) = above.child_axes
    named = [label.get_text() for label in scale.get_yticklabels()]
    assert named[-1] == "0" and named[0] == "3" and scale.get_title("left") == "epoch"
    assert texts(drawn.figure).count("A²MIM") == 2  # its panel, and its line of M
    assert_readable(drawn.figure)
    assert drawn.files == {run: ["course.csv"] for run in runs} and drawn.note == ""
    assert "95 % bootstrap intervals over 50 images" in caption(drawn.figure)


def test_networks_have_panels_of_m_of_their_own_and_a_page_holds_them(tmp_path):
    runs = courses(tmp_path, ["supervised", "A²MIM"] * 2, ["CNN", "CNN", "ViT", "ViT"])
    drawn = draw(runs)
    titles = [axes.get_title("left") for axes in seen(drawn.figure)]
    assert titles == ["CNN, supervised", "CNN, A²MIM", "ViT, supervised", "ViT, A²MIM", "CNN", "ViT"]
    np.testing.assert_allclose(mass(seen(drawn.figure)[-1], 0)[1], course_table(2).drop_duplicates("step")["M"])
    assert_readable(drawn.figure)


def test_one_training_needs_no_names(tmp_path):
    drawn = draw(courses(tmp_path, ["run"]))
    assert len(seen(drawn.figure)) == 2 and texts(drawn.figure).count("run") == 1
    assert_readable(drawn.figure)


def test_seeds_are_means_and_those_with_other_states_are_none(tmp_path):
    drawn = draw(courses(tmp_path / "a", ["x", "x"]))
    *_, curves = states(seen(drawn.figure)[0])
    np.testing.assert_allclose(curves[0], (course_table(0)["J_rms"][:13] + course_table(1)["J_rms"][:13]) / 2)
    with pytest.raises(ValueError, match="kept other states, so they are no seeds of one training"):
        draw(courses(tmp_path / "b", ["x", "x"], tables=[course_table(), course_table(states=5)]))


def test_what_is_missing_is_said(tmp_path):
    table = course_table()
    table.loc[[0, 15], ["J_rms", "J_rms_low", "J_rms_high"]] = np.nan
    table[["M", "M_low", "M_high"]] = np.nan
    drawn = draw(courses(tmp_path, ["run"], tables=[table]))
    assert "Left out: 2 of 117 points, where noise exceeds the signal." in caption(drawn.figure)
    assert "no order ratio from 0.3 to 0.7 was measured" in texts(drawn.figure)
    with pytest.raises(ValueError, match="lacks the column epoch"):
        draw(courses(tmp_path / "b", ["run"], tables=[table.drop(columns="epoch")]))


def test_a_training_without_m_beside_others_is_said(tmp_path):
    gone, some = course_table(1), course_table(2)
    gone[["M", "M_low", "M_high"]] = np.nan
    some.loc[some["step"] < 200, ["M", "M_low", "M_high"]] = np.nan
    drawn = draw(courses(tmp_path, ["a", "b", "c"], tables=[course_table(), gone, some]))
    assert "M is missing of b at 9 of 9 states; of c at 2 of 9 states." in caption(drawn.figure)


@pytest.mark.filterwarnings("error")
def test_a_middle_that_no_state_has_draws_empty_panels(tmp_path):
    """Two trainings, whose names stand beside the curves: there is none to name."""
    tables = [course_table(k).assign(M=np.nan, M_low=np.nan, M_high=np.nan) for k in range(2)]
    assert "no order ratio from 0.3 to 0.7 was measured" in texts(draw(courses(tmp_path, "ab", tables=tables)).figure)
    tables = [course_table(k).assign(**dict.fromkeys(NUMBERS, np.nan)) for k in range(2)]
    words = caption(draw(courses(tmp_path / "empty", "ab", tables=tables)).figure)
    assert "No intervals." in words and "95 %" not in words


NUMBERS = ("M", "M_low", "M_high", "J_rms", "J_rms_low", "J_rms_high")
