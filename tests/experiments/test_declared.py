"""The declared test of the CIFAR-10 study: Holm's correction, the three answers, and the sentences."""

import numpy as np
import pandas as pd
import pytest

from experiments.studies.cifar10 import declared
from experiments.studies.cifar10.answers import answers, declared_answer, noise
from experiments.studies.cifar10.declared import COLUMNS, NO, OPEN, YES, answered, holm
from experiments.studies.cifar10.plan import Settings, setups
from tests.interactions.test_hierarchy import table


def test_holm_is_the_step_down_of_the_paper():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1.0, 1.0])
    np.testing.assert_allclose(holm([np.nan, 0.02]), [np.nan, 0.04])  # what is missing was a comparison, too


@pytest.mark.parametrize(
    ("difference", "p", "p_holm", "high_all", "answer"),
    [
        (0.3, 0.001, 0.01, 0.5, YES),
        (0.3, 0.01, 0.08, 0.7, OPEN),
        (-0.3, 0.001, 0.01, -0.1, NO),
        (0.02, 0.5, 1.0, 0.09, NO),
        (0.02, 0.5, 1.0, 0.11, OPEN),
        (0.02, np.nan, np.nan, 0.09, OPEN),
    ],
)
def test_yes_needs_a_higher_mass_and_no_a_bound(difference, p, p_holm, high_all, answer):
    assert answered({"difference": difference, "p": p, "p_holm": p_holm, "high_all": high_all}) == answer


def made_up(monkeypatch, lifts):
    """Three seeds of three methods in one set-up; lifts: of the middle order, by method."""
    rng = np.random.default_rng(0)

    def seed(lift):
        return table(rng.uniform(0.9, 1.1, (10, 3)) * [1, 1 + lift, 1])

    runs = {method: [seed(lift) for _ in range(3)] for method, lift in lifts.items()}
    given = lambda settings, family, methods, of: runs if of.__self__.name == "fine-tuned log_odds" else {}  # noqa: E731
    monkeypatch.setattr(declared, "measured", given)
    return Settings("a", "b", families=("cnn",))


def test_every_comparison_is_corrected_for_all_and_said(monkeypatch, tmp_path):
    settings = made_up(monkeypatch, {"a2mim": 0.5, "supervised": 0.0, "simclr": 0.5})
    found = declared.declared(settings)
    assert tuple(found.columns) == COLUMNS and len(found) == 2 * 3  # against two methods, by three measures
    chosen = found[found.measure == "J_rms"].set_index("method_b")
    assert chosen.loc["supervised", "answer"] == YES and chosen.loc["SimCLR", "answer"] in (NO, OPEN)
    assert chosen.loc["supervised", "p_holm"] == pytest.approx(8 * chosen.loc["supervised", "p"])
    assert (found.low_all < found.low).all() and (found.high < found.high_all).all()
    found.to_csv(tmp_path / "declared.csv", index=False)
    found.to_csv(tmp_path / "differences.csv", index=False)
    said = answers(tmp_path)
    assert said[0].startswith("CNN, fine-tuned, log-odds: does A²MIM raise M against supervised? Yes: +0.")
    assert "3 seeds" in said[0] and "for all 8 comparisons" in said[0]  # the other set-ups have not been measured
    assert "would have said otherwise in 0 of 2 comparisons." in " ".join(said)
    other = found["measure"].eq("J") & found["method_b"].eq("supervised")
    found.assign(answer=found["answer"].mask(other, NO)).to_csv(tmp_path / "declared.csv", index=False)
    assert "otherwise in 1 of 2 comparisons (CNN, fine-tuned, log-odds, against supervised: no for yes)" in " ".join(
        answers(tmp_path)
    )


def test_without_an_interval_nothing_is_said_of_a_difference(tmp_path):
    row = {"network": "cnn", "setup": "frozen cosine", "method_a": "SimMIM", "method_b": "supervised", "seeds": 1}
    row |= {"difference": 0.4, "low": np.nan, "high": np.nan, "p": np.nan, "images": 2}
    pd.DataFrame([row | {"measure": name} for name in ("J", "J_rms")]).to_csv(tmp_path / "differences.csv")
    said = answers(tmp_path)[0]
    assert (
        "SimMIM has a middle mass M that cannot be compared yet, against supervised: +0.400 [no interval: fewer" in said
    )
    assert (
        "fewer than eight images] by J_rms (n = 2 images, 1 seed; each interval by itself)." in said
        and "nan" not in said
    )
    few = row | {"p_holm": np.nan, "answer": OPEN, "measure": "J_rms", "seeds": 3}
    said = declared_answer(few, 2)
    assert "+0.400 [no interval: fewer than eight images], p unknown (n = 2" in said and "nan" not in said


@pytest.mark.parametrize(("size", "contexts"), [("cpu", (5, 20)), ("gpu", (25, 100))])
def test_how_many_contexts_the_published_protocol_had_is_said(tmp_path, size, contexts):
    common = {"network": "cnn", "of": "A²MIM", "measure": "J", "low": 0.1, "high": 0.4, "images": 64}
    rows = [common | {"contexts": "×1", "M": 0.3}, common | {"contexts": "×4", "M": 0.2}]
    pd.DataFrame(rows).to_csv(tmp_path / "published.csv", index=False)
    (said,) = noise(Settings("a", "b", size=size, results=tmp_path))
    few, many = contexts
    assert f"with {few} contexts a pair (as published: 50): 0.300" in said and f"with {many}: 0.200" in said


def test_what_is_not_measured_is_not_compared(monkeypatch):
    assert len(declared.declared(made_up(monkeypatch, {"supervised": 0.0, "simclr": 0.0}))) == 0
    assert isinstance(declared.declared(Settings("a", "b")), pd.DataFrame)


def test_set_ups_have_a_name_and_a_folder_of_their_own():
    assert [setup.name for setup in setups("vit")] == [
        f"{kind}{baseline}" for baseline in ("", " blur", " drop") for kind in ("fine-tuned log_odds", "frozen cosine")
    ]
    assert len({setup.folder for setup in setups("vit")}) == 6 and setups("cnn")[2].words == ("--baseline", "blur")
