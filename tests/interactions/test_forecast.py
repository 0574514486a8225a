"""What a run will take is said before it, and a dry run writes nothing."""

import json

import pytest

from interactions.forecast import DryRun, duration
from interactions.occlusion import measure_occlusion
from interactions.profile import profile_model
from interactions.spectrum import measure_spectrum
from tests.interactions.tiny import ASKED, Photos, network

HOW = {"images": 4, "unit_images": 2, "progress": False}
OCCLUSION = {"grid": 3, "shares": (0.0, 0.5, 1.0), "kinds": ("random",), "seeds": 2, "batch_size": 16}
OCCLUSION["speed"] = "folded"
ENDS = 1 + 16 + 42  # what the first and the last order take of their budget: one context, with every cell and pair
MEASURES = {
    "profile": (lambda **more: profile_model(network(), Photos(5), **ASKED | HOW | more), 4 * (2 * 400 + 2 * ENDS)),
    "precision": (lambda **more: precision(**more), 4 * (2 * 300 + 2 * ENDS)),
    "occlusion": (lambda **more: measure_occlusion(network(), Photos(5), **HOW | OCCLUSION | more), 4 * (2 + 2 + 5)),
    "spectrum": (lambda **more: measure_spectrum(network(), Photos(5), **HOW | more), 4),
}


def precision(**more):
    asked = {**ASKED, **HOW, "budget": None, "design": "auto", "precision": 0.5} | more
    return profile_model(network(), Photos(5), **asked)


@pytest.mark.parametrize("name", MEASURES)
def test_a_dry_run_says_what_the_run_takes_and_writes_nothing(tmp_path, name):
    measure, passes = MEASURES[name]
    least, more = ("at least", ", mostly several times as many") if name == "precision" else ("about", "")
    with pytest.raises(DryRun, match=rf"^{least} {passes:,} passes{more}; .* on cpu at .* a second.*; .* MB in .*run$"):
        measure(out=tmp_path / "a" / "run", dry_run=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "asked",
    [{"budget": 200}, {"design": "exact"}, {"design": "published", "published_pairs": 2, "budget": 100}],
    ids=["auto", "exact", "published"],
)
def test_the_forecast_is_what_the_run_takes(asked):
    """Ratios fall together on a small grid, the ends need fewer passes than they may take, exact takes three sizes."""
    found = profile_model(network(), Photos(5), out=None, grid=3, radius=1, images=2, progress=False, **asked)
    assert found.images().passes.sum() == pytest.approx(found.record["forecast"]["passes"], rel=0.1)


@pytest.mark.parametrize("name", ["profile", "occlusion"])
def test_a_dry_run_of_a_run_that_is_there_says_what_is_left_and_changes_nothing(tmp_path, name):
    measure, _ = MEASURES[name]
    record = measure(out=tmp_path).record
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DryRun, match="about 0 passes left"):
        measure(out=tmp_path, dry_run=True)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "units" / "unit-00001.json").unlink()
    (tmp_path / "run.json").write_text(json.dumps(record | {"status": "running"}))
    with pytest.raises(DryRun, match=f"about {2 * record['passes_per_image']:,} passes left"):
        measure(out=tmp_path, dry_run=True)
    assert not (tmp_path / "units" / "unit-00001.json").exists()


def test_a_dry_run_of_an_extension_says_what_it_takes(tmp_path):
    passes = MEASURES["profile"][0](out=tmp_path / "fixed").record["passes_per_image"]
    with pytest.raises(DryRun, match=f"about {passes:,} passes left"):
        MEASURES["profile"][0](out=tmp_path / "fixed", dry_run=True, images=9)  # there are five
    precision(out=tmp_path / "precision", precision=10, images=None)
    (tmp_path / "precision" / "units" / "unit-00000.json").rename(tmp_path / "mark")
    with pytest.raises(DryRun, match=r"at least [1-9][0-9,]* passes left"):
        precision(out=tmp_path / "precision", precision=10, images=None, dry_run=True)


def test_a_long_run_says_how_long_before_it_begins(tmp_path, capsys, monkeypatch):
    MEASURES["profile"][0](out=tmp_path / "short", progress=True)
    assert "a second" not in capsys.readouterr().err
    monkeypatch.setattr("interactions.forecast.WORTH_SAYING", 0.0)
    MEASURES["profile"][0](out=tmp_path / "long", progress=True)
    assert f"about {4 * (2 * 400 + 2 * ENDS):,} passes; " in capsys.readouterr().err


def test_a_preparation_takes_a_small_part_of_a_run(tmp_path):
    asked = ASKED | {"design": "auto", "images": 40, "progress": False}
    record = profile_model(network(), Photos(40), out=tmp_path, **asked).record
    spent = record["preparation_passes"]
    floor = spent["floor"] / 2 * 11  # a pass in float64 takes ten times as long
    assert spent["trials"] <= 0.01 * record["forecast"]["passes"] and min(spent.values()) >= 0 < spent["floor"]
    assert spent["trials"] + spent["pilot"] + floor <= 0.05 * record["forecast"]["passes"]
    assert record["passes"] == sum(spent.values()) + 40 * record["passes_per_image"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (119, "119 s"), (150, "2.5 min"), (3600, "60 min"), (9000, "2.5 h"), (1e6, "12 days")],
)
def test_times_are_said_as_one_says_them(seconds, said):
    assert duration(seconds) == said
