"""`a2mim transfer` and `a2mim reproduce transfer`: tables against scores by hand, ranks against every draw there is,
one sentence for what does not fit."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from a2mim.detect.scores import matches_of
from experiments.cli import main
from experiments.commands import report
from experiments.commands.knn import Settings as Neighbours
from experiments.studies import transfer
from experiments.studies.steps import Step, finished
from experiments.training.setups import NEIGHBOURS, data_of
from experiments.training.transferring import (
    KEY,
    Entry,
    correlations,
    found_in,
    rank_correlation,
    spearman,
    transfer_table,
)
from figures import prediction
from figures.runs import open_runs
from figures.transfer import caption
from figures.words import setup_in_words
from tests.figures import made_up_runs as made_up
from tests.sketches import sketched

IMAGES, CLASSES = 12, 3


@pytest.fixture(autouse=True)
def quick():
    with sketched():
        yield


def segmented(folder, right, seed=0, decoder="linear", frozen=True, finished=True):
    """A run whose pictures have so many pixels of each class, `right` of ten of them told rightly."""
    rng = np.random.default_rng(seed)
    there = rng.integers(1, 5, (IMAGES, CLASSES)) * 10
    told = there * right // 10
    counts = np.stack([told, there, told + (there - told)[:, ::-1]], 1)
    r, a, p = counts.sum(0)
    last = {"miou": 100 * float(np.mean(r / (a + p - r))), "mean_accuracy": 100 * float(np.mean(r / a))}
    last |= {"pixel_accuracy": 100 * float(r.sum() / a.sum()), "miou_low": 1.0, "miou_high": 99.0}
    last |= {"mean_accuracy_low": 1.0, "mean_accuracy_high": 99.0, "pixel_accuracy_low": 1.0, "val_images": IMAGES}
    settings = {"data": {"data": "some/scenes.tar", "val": ""}, "decoding": {"decoder": decoder, "frozen": frozen}}
    write(folder, "segment", settings, {**last, "pixel_accuracy_high": 99.0}, finished)
    np.savez(folder / "counts.npz", counts=counts)
    pd.DataFrame({"class": ["None", "b", "c"], "iou": [1.0, 2, 3]}).to_csv(folder / "per_class.csv", index=False)
    return folder


def detected(folder, hits, **detecting):
    """A run that finds `hits` of the one thing in each of 12 pictures."""
    boxes = [0.0, 0.0, 50.0, 50.0]
    pictures = [{"id": n, "height": 100, "width": 100} for n in range(IMAGES)]
    things = [{"image_id": n, "category_id": 0, "bbox": boxes, "area": 2500, "iscrowd": 0} for n in range(IMAGES)]
    found = [{"image_id": n, "category_id": 0, "bbox": boxes, "score": 0.9} for n in range(hits)]
    matches = matches_of(pictures, things, found, 1, "box")
    # COCO's 101 recalls: those up to hits/12 have precision 1, the others 0
    ap = 100 * np.count_nonzero(np.linspace(0, 1, 101) <= hits / IMAGES) / 101
    settings = {"data": {"data": "things", "val": ""}, "detecting": {"detector": "faster_rcnn", "frozen": False}}
    settings["detecting"] |= detecting
    write(folder, "detect", settings, {"box_ap": ap, "box_ap50": ap, "val_images": IMAGES})
    np.savez(folder / "matches.npz", **{f"box_{name}": x for name, x in matches.arrays().items()})
    return folder


def write(folder, command, settings, last, finished=True):
    folder.mkdir(parents=True)
    record = {"command": command, "settings": settings, "finished": finished, "last": last, "seconds": 10.0}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "log.jsonl").write_text('{"kind": "train", "step": 1, "epoch": 0.5, "loss": 1.0, "lr": 0.1}\n' * 2)
    (folder / "loss.png").touch()


def probed(path, linear, attentive):
    heads = {
        "linear": {"top1": linear, "top1_low": linear - 1, "top1_high": linear + 1},
        "attentive": {"top1": attentive},
    }
    result = {
        "command": "linear",
        "heads": heads,
        "test_images": 100,
        "settings": {"data": {"data": "x.tar", "val": "y"}},
    }
    path.write_text(json.dumps(result))
    return path


def test_the_table_has_every_measure_and_differences_of_the_same_set_up(tmp_path):
    runs = [segmented(tmp_path / "a", 5), segmented(tmp_path / "b", 8), segmented(tmp_path / "c", 9, decoder="fpn")]
    runs += [detected(tmp_path / "d", 4), detected(tmp_path / "e", 9)]
    table = transfer_table([Entry(run.name, run) for run in runs])
    value = {(row.run, row.measure): row for row in table.itertuples()}
    assert len(table) == 3 * 3 + 2 * 2
    for second, first in (("b", "a"), ("e", "d")):
        row = value[second, "miou" if second == "b" else "box_ap"]
        gain = row.value - value[first, row.measure].value
        assert row.difference == pytest.approx(gain) and row.difference_low < gain < row.difference_high
    assert np.isnan(value["a", "miou"].difference) and np.isnan(value["c", "miou"].difference)
    assert np.isnan(value["b", "pixel_accuracy"].difference) and value["c", "miou"].setup == "fpn, frozen"
    assert value["e", "box_ap"].value == pytest.approx(100 * 76 / 101)
    across = transfer_table([Entry(run.name, run) for run in runs[:3]], across=True)
    assert "less the first of its set-up" in caption(table) and "less the first on the same pictures" in caption(across)
    row = across[(across["run"] == "c") & (across["measure"] == "miou")].iloc[0]
    assert row["difference"] == pytest.approx(value["c", "miou"].value - value["a", "miou"].value)


def test_heads_stand_beside_each_other_with_intervals(tmp_path):
    files = [probed(tmp_path / f"{n}.json", 40 + n, 50.0) for n in range(2)]
    table = transfer_table([Entry(path.stem, path) for path in files])
    assert list(table["setup"]) == ["linear", "attentive"] * 2 and set(table["data"]) == {"y"}
    wilson = stats.binomtest(50, 100).proportion_ci(method="wilson")
    np.testing.assert_allclose(table[["low", "high"]].iloc[1], (100 * wilson.low, 100 * wilson.high))
    assert list(table[["low", "high"]].iloc[0]) == [39, 41]
    assert "95 % intervals over 100 pictures." in caption(table)


def test_a_mean_of_seeds_says_what_its_interval_is_over(tmp_path):
    path = probed(tmp_path / "one.json", 40, 50.0)
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"settings": result["settings"] | {"seeds": 3}}))
    table = transfer_table([Entry("one", path)])
    assert list(table["setup"]) == ["linear, mean of 3 seeds", "attentive, mean of 3 seeds"]
    assert "95 % intervals over 100 pictures, of a mean of seeds over the seeds." in caption(table)
    assert "over pictures, of a mean of seeds over the seeds." in prediction.caption(table)


FEW = [
    ({}, ""),
    ({"labels": 1.0, "per_class": 0, "data": {"limit": 0}}, ""),
    ({"labels": 0.2}, ", 20 % of the labels"),
    ({"per_class": 1}, ", 1 labelled image a class"),
    ({"per_class": 5, "seeds": 3}, ", 5 labelled images a class, mean of 3 seeds"),
    ({"labels": 0.015, "data": {"limit": 5000}}, ", 5,000 training images, 1.5 % of the labels"),
]


def asking(path, settings):
    result = json.loads(path.read_text())
    data = result["settings"]["data"] | settings.get("data", {})
    path.write_text(json.dumps(result | {"settings": result["settings"] | settings | {"data": data}}))
    return path


def test_probes_of_few_labels_are_another_set_up(tmp_path):
    """All were "linear", in one panel, one correlation with M, and without a word."""
    files = [asking(probed(tmp_path / f"{n}.json", 40 + n, 50.0), few) for n, (few, _) in enumerate(FEW)]
    table = transfer_table([Entry(path.stem, path) for path in files])
    assert list(table["setup"]) == [f"{head}{words}" for _, words in FEW for head in ("linear", "attentive")]
    told = correlations(table.assign(M=1.0 + np.arange(len(table)))[table["setup"].str.startswith("linear")])
    assert told.empty  # six probes, of which no four are alike
    assert setup_in_words(table["setup"].iloc[-2]) == "linear, 5,000 training images, 1.5 % of the labels"


def test_neighbours_and_trainings_of_few_images_are_another_set_up(tmp_path):
    about = {"command": "knn", "top1": 50.0, "test_images": 100}
    asked = [{"k": 20, "temperature": 0.07}, {"k": 5, "temperature": 0.07}, {"temperature": 0.1}]
    files = []
    for n, settings in enumerate(asked):
        files.append(tmp_path / f"{n}.json")
        files[-1].write_text(json.dumps(about | {"settings": settings | {"data": {"data": "x", "val": ""}}}))
    files[-1] = asking(files[-1], {"data": {"limit": 40}})
    of_knn = [found.setup for path in files for found in found_in(path)]
    last = "nearest neighbours, temperature 0.1, 40 training images"
    assert of_knn == ["nearest neighbours", "nearest neighbours, k 5", last]
    assert {name: getattr(Neighbours(), name) for name in NEIGHBOURS} == NEIGHBOURS
    runs = [segmented(tmp_path / "a", 5), detected(tmp_path / "b", 4)]
    for run in runs:
        asking(run / "run.json", {"data": {"limit": 40}})
    tuned = {"top1": 50.0, "val_images": 100}
    write(tmp_path / "c", "finetune", {"data": {"data": "x", "val": "", "limit": 40}}, tuned)
    setups = {found.setup for run in (*runs, tmp_path / "c") for found in found_in(run)}
    assert setups == {
        f"{how}, 40 training images" for how in ("linear, frozen", "faster_rcnn, fine-tuned", "fine-tuned")
    }


def test_data_are_told_apart_where_all_call_their_folder_val(tmp_path, monkeypatch):
    told = [
        data_of({"data": {"data": "x", "val": val}}) for val in ("a/imagenet/val", "places/val", "b/camvid.tar", "")
    ]
    assert told == ["imagenet/val", "places/val", "camvid", "x"]
    parts = [data_of({"data": {"data": "x", "val": "", "val_split": part}}) for part in ("validation", "val2017", ".")]
    assert parts == ["x"] * 3
    assert data_of({"data": {"data": "torch/cifar10", "val": "", "val_split": "test"}}) == "cifar10 test"
    (tmp_path / "scenes" / "val").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "scenes" / "val")
    told = [data_of({"data": {"data": data, "val": ""}}) for data in (".", "./", "..", "../val")]
    assert told == ["scenes/val", "scenes/val", "scenes", "scenes/val"]


def test_accuracies_on_other_images_of_one_name_are_refused(tmp_path):
    """Only their number was looked at."""
    for name, digest in (("one", "aa"), ("two", "aa"), ("other", "bb"), ("old", "")):
        path = probed(tmp_path / f"{name}.json", 40, 50.0)
        data = {"data": {"validation": {"images": 100, "digest": digest}}} if digest else {}
        path.write_text(json.dumps(json.loads(path.read_text()) | data))
    entries = {name: Entry(name, tmp_path / f"{name}.json") for name in ("one", "two", "other", "old")}
    transfer_table([entries["one"], entries["two"], entries["old"]])  # an older record does not say
    with pytest.raises(
        ValueError, match=r"other.json and .*one.json were evaluated on other images, although both are"
    ):
        transfer_table([entries["one"], entries["old"], entries["other"]])


def test_accuracies_on_other_numbers_of_images_are_refused(tmp_path):
    """What could not be read counts; of segmentations the pictures themselves are looked at."""
    one, other = probed(tmp_path / "one.json", 40, 50.0), probed(tmp_path / "other.json", 40, 50.0)
    result = json.loads(other.read_text()) | {"test_images": 90}
    other.write_text(json.dumps(result))
    entries = [Entry(path.stem, path) for path in (one, other)]
    with pytest.raises(ValueError, match=r"other.json was evaluated on 90 images and .*one.json on 100, both of y"):
        transfer_table(entries)
    skipped = [{"part": part, "image": n} for n, part in enumerate(["train"] * 5 + ["validation"] * 10)]
    other.write_text(json.dumps(result | {"skipped": skipped}))
    assert list(transfer_table(entries)["images"]) == [100, 100, 90, 90]
    tuned = tmp_path / "tuned"
    write(tuned, "finetune", {"data": {"data": "y", "val": ""}}, {"top1": 60.0, "val_images": 80})
    with pytest.raises(ValueError, match="tuned was evaluated on 80 images and"):
        transfer_table([*entries, Entry("tuned", tuned)])


def test_runs_of_other_epochs_and_pixels_are_other_set_ups(tmp_path):
    """They were one, and what fifty epochs on windows gave was said to be the weights' doing."""
    runs = [segmented(tmp_path / name, 5 + k) for k, name in enumerate("abc")]
    for run, epochs, evaluate in zip(runs, (4, 50, 4), ("whole", "slide", "whole"), strict=True):
        record = json.loads((run / "run.json").read_text())
        record["settings"]["decoding"]["evaluate"] = evaluate
        record["settings"] |= {"optim": {"epochs": epochs}, "crops": {"crop": [224, 320], "short_side": 0}}
        (run / "run.json").write_text(json.dumps(record))
    table = transfer_table([Entry(run.name, run) for run in runs])
    first, longer, like = (table[(table["run"] == name) & (table["measure"] == "miou")].iloc[0] for name in "abc")
    assert longer["setup"] == "linear, frozen, 50 epochs, 224 px in windows of 224×320"
    assert first["setup"] == like["setup"] == "linear, frozen, 4 epochs, 224 px"
    assert np.isnan(longer["difference"]) and not np.isnan(like["difference"])
    assert set(transfer_table([Entry(run.name, run) for run in runs[::2]])["setup"]) == {"linear, frozen"}


def test_windows_of_attention_are_a_set_up(tmp_path):
    runs = [detected(tmp_path / "a", 5), detected(tmp_path / "b", 6, window=0), detected(tmp_path / "c", 6, window=14)]
    table = transfer_table([Entry(run.name, run) for run in runs]).set_index(["run", "measure"])
    whole, windows = table.loc[("b", "box_ap")], table.loc[("c", "box_ap")]
    assert whole["setup"] == "faster_rcnn, fine-tuned" and whole["difference"] > 0
    assert windows["setup"] == "faster_rcnn, fine-tuned, windows of 14" and np.isnan(windows["difference"])


def test_rank_correlation_is_scipys_and_its_interval_that_of_every_draw():
    rng = np.random.default_rng(0)
    for size in (4, 9):
        x, y = rng.random(size), rng.integers(0, 4, size).astype(float)
        assert rank_correlation(x, y)["rho"] == pytest.approx(stats.spearmanr(x, y).statistic)
    x, y = np.array([0.8, 0.9, 1.1, 1.3]), np.array([20.0, 35.0, 30.0, 50.0])
    every = np.array(list(itertools.product(range(4), repeat=4)))  # all 256 draws, each as likely as another
    rho = spearman(x[every], y[every])
    exact = np.quantile(rho[~np.isnan(rho)], (0.025, 0.975))
    found = rank_correlation(x, y)
    assert found["rho"] == pytest.approx(1 - 6 * 2 / (4 * 15))  # Σd² = 2
    np.testing.assert_allclose((found["low"], found["high"]), exact, atol=1e-12)
    every = [spearman(x[None], y[list(order)][None])[0] for order in itertools.permutations(range(4))]
    assert found["p"] == pytest.approx(2 * np.mean(np.array(every) >= found["rho"] - 1e-9))
    monotone = rank_correlation(x, np.sort(y))  # any draw of it is monotone, too: no interval, and p of 2 in 24
    assert monotone["rho"] == pytest.approx(1) and np.isnan(monotone["low"]) and monotone["p"] == pytest.approx(2 / 24)
    assert np.isnan(rank_correlation(x, np.ones(4))["rho"])


def test_m_stands_beside_and_four_runs_are_ranked(tmp_path, capsys):
    runs = [segmented(tmp_path / f"run{n}", 4 + n) for n in range(5)]
    profiles = [made_up.profile(tmp_path / f"profile{n}", seed=n) for n in range(4)]
    words = ["transfer", *map(str, runs), "--profiles", *map(str, profiles), "-", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    table, ranks = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("transfer", "correlation"))
    masses = [pd.read_csv(one / "middle_mass.csv").set_index("measure").loc["J_rms"] for one in profiles]
    assert table[table["run"] == "run4"]["M"].isna().all()
    rows = table[(table["measure"] == "miou") & table["M"].notna()]
    np.testing.assert_allclose(rows["M"], [row["M"] for row in masses], atol=1e-4)
    expected = stats.spearmanr(rows["M"], rows["value"]).statistic
    assert ranks.set_index("measure").loc["miou", "rho"] == pytest.approx(expected, abs=1e-4)
    assert set(ranks["runs"]) == {4} and list(ranks.columns[:4]) == KEY
    assert all((tmp_path / "out" / "figures" / f"{name}.png").is_file() for name in ("transfer", "prediction"))
    assert not len(correlations(table[table["run"] != "run0"]))
    assert main([*words[:6], "--out", str(tmp_path / "out")]) == 2
    assert "holds the correlation of an earlier comparison" in capsys.readouterr().err
    blurred = made_up.profile(tmp_path / "blurred", seed=4, baseline="blur")
    assert main(["transfer", *words[1:3], "--profiles", words[7], str(blurred), "--out", str(tmp_path / "other")]) == 2
    assert "of the profiles, these runs differ in baseline (mean colour: " in capsys.readouterr().err


def test_a_figure_that_no_page_holds_does_not_stop_the_next_one(tmp_path, capsys):
    files = [probed(tmp_path / f"{n}.json", 40 + n / 4, 50.0) for n in range(36)]
    profiles = [made_up.profile(tmp_path / f"profile{n}", seed=n) for n in range(4)]
    words = ["transfer", *files, "--profiles", *profiles, *["-"] * 32, "--out", tmp_path / "out"]
    assert main(list(map(str, words))) == 2
    said = capsys.readouterr().err
    assert "the tables are written, and not every figure: transfer: the figure would be 2" in said
    assert said.count("\n") == 1 and "prediction" not in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"transfer.csv", "correlation.csv", "figures"}
    assert (tmp_path / "out" / "figures" / "prediction.png").is_file()


def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(tmp_path, capsys):
    one, two = segmented(tmp_path / "one", 5), segmented(tmp_path / "two", 5, seed=1)
    half, profile = segmented(tmp_path / "half", 5, finished=False), made_up.profile(tmp_path / "profile")
    lost = segmented(tmp_path / "lost", 5)
    (lost / "counts.npz").unlink()
    cut, flat, other = (segmented(tmp_path / name, 5) for name in ("cut", "flat", "other"))
    (cut / "counts.npz").write_bytes((cut / "counts.npz").read_bytes()[:-9])
    np.savez(flat / "counts.npz", counts=np.arange(9))
    np.savez(other / "counts.npz", miou=1)
    torn = detected(tmp_path / "torn", 4)
    (torn / "matches.npz").write_bytes(b"")
    (tmp_path / "bad.json").write_text("{}")
    trained = made_up.training(tmp_path / "trained")
    for words, sentence in (
        ([one, two], "two was evaluated on other pictures than"),
        ([half], "half is not finished"),
        ([lost], "lost/counts.npz: start a2mim segment again"),
        ([cut], "cut/counts.npz cannot be read as .npz (File is not a zip file): start a2mim segment again"),
        ([flat], "flat/counts.npz is damaged: start a2mim segment again"),
        ([other], "other/counts.npz lacks counts: start a2mim segment again"),
        ([torn], "torn/matches.npz cannot be read as .npz (File is not a zip file): start a2mim detect again"),
        ([trained], "trained is a run of a2mim pretrain: give folders of segment, detect, finetune"),
        ([tmp_path / "bad.json"], "bad.json is no result of a2mim linear or a2mim knn"),
        ([tmp_path / "nowhere.json"], "nowhere.json does not exist"),
        ([one, one], "one is given 2 times"),
        ([one, "--names", "a", "b"], "2 names for 1 runs"),
        ([one, "--names", " "], "a name is empty"),
        ([one, "--profiles", profile], "a rank correlation needs 4 runs"),
        ([], "no runs were named"),
    ):
        assert main(["transfer", *map(str, words), "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_names_that_look_like_numbers_or_nothing_are_drawn(tmp_path):
    files = [probed(tmp_path / f"{n}.json", 40 + n, 50.0) for n in range(3)]
    for path in files:
        path.write_text(path.read_text().replace('"y"', '"some/2012"'))
    names = ["2012", "None", "01"]
    assert main(["transfer", *map(str, files), "--names", *names, "--out", str(tmp_path / "out")]) == 0
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "out"), "--out", str(page)]) == 0
    assert all(f">{name}</th>" in page.read_text("utf-8") for name in names)


def test_the_page_shows_them_beside_m(tmp_path, capsys):
    run, profile = segmented(tmp_path / "run", 7), made_up.profile(tmp_path / "profile")
    page = tmp_path / "page.html"
    assert main(["report", str(run), str(profile), "--names", "ViT", "ViT", "--out", str(page)]) == 0
    assert "Segmentation and detection" in capsys.readouterr().out
    html = page.read_text("utf-8")
    assert "Segmentation of scenes: mIoU, per cent" in html and "linear, frozen" in html
    mass = pd.read_csv(profile / "middle_mass.csv").set_index("measure").loc["J_rms", "M"]
    assert f"{mass:.2f}" in html and "Classes of ViT, per cent" in html
    assert ">None<" in html  # a class of that name


def page_of(tmp_path, runs, names):
    """The table of segmentation on a page of these runs, as rows of cells."""
    page = tmp_path / "page.html"
    assert main(["report", *map(str, runs), "--names", *names, "--out", str(page)]) == 0
    return page.read_text("utf-8")


def test_m_of_another_seed_does_not_stand_beside_a_run(tmp_path):
    """Runs of one name were joined by their places: the second segmentation with the second profile, whatever these
    were of."""
    runs = [segmented(tmp_path / f"run{n}", 7) for n in range(2)]
    profiles = [made_up.profile(tmp_path / f"profile{n}", seed=n) for n in range(2)]
    mass = pd.read_csv(profiles[0] / "middle_mass.csv").set_index("measure").loc["J_rms", "M"]
    why = "M is not beside ViT: several runs or profiles are called so"
    for of_run, of_profile in itertools.product((1, 2), (1, 2)):
        given = [*runs[:of_run], *profiles[:of_profile]]
        table, said = report.transfer_of(open_runs(given, ["ViT"] * len(given)))
        assert table["M"].notna().any() == (of_run == of_profile == 1) and (why in said) != table["M"].notna().any()
        assert (why in page_of(tmp_path, given, ["ViT"] * len(given))) == bool(said)
    table, said = report.transfer_of(open_runs([*runs, *profiles], ["ViT", "CNN", "CNN", "ViT"]))
    np.testing.assert_allclose(table.groupby("run")["M"].first()["CNN"], mass)
    assert not said
    both = [segmented(tmp_path / "dense", 7), detected(tmp_path / "boxes", 5), profiles[0]]
    table, said = report.transfer_of(open_runs(both, ["ViT"] * 3))  # two tasks of one network
    assert table["M"].notna().all() and not said


def test_a_page_says_why_m_is_not_beside_its_runs(tmp_path):
    given = [segmented(tmp_path / "a", 7), segmented(tmp_path / "b", 7)]
    given += [made_up.profile(tmp_path / "c"), made_up.profile(tmp_path / "d", baseline="blur")]
    html = page_of(tmp_path, given, ["a", "b", "a", "b"])
    assert (
        "M is not beside the runs, since it is not of one game: of the profiles, these runs differ in baseline" in html
    )


def changed(folder, edit):
    record = json.loads((folder / "run.json").read_text())
    edit(record)
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda record: record["images"][3].update(name="another"), "images (50 in run0; 50 in run1; 49 in all)"),
        (lambda record: record["images"][3].update(target=7), "target class (of 1 of 50 shared images)"),
    ],
)
def test_m_over_other_images_or_classes_is_refused(edit, said, tmp_path, capsys):
    runs = [segmented(tmp_path / f"run{n}", 4 + n) for n in range(2)]
    profiles = [made_up.profile(tmp_path / f"profile{n}", seed=n) for n in range(2)]
    changed(profiles[1], edit)
    words = ["transfer", *map(str, runs), "--profiles", *map(str, profiles), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert f"of the profiles, these runs differ in {said}, and their M are not" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_m_of_fewer_of_the_same_images_stands_beside(tmp_path):
    """As `a2mim compare` takes runs to a precision, one of which needed more images than the other."""
    runs = [segmented(tmp_path / f"run{n}", 4 + n) for n in range(2)]
    profiles = [made_up.profile(tmp_path / f"profile{n}", seed=n) for n in range(2)]
    changed(profiles[1], lambda record: record["images"].__delitem__(slice(40, None)))
    entries = [Entry(run.name, run, profile) for run, profile in zip(runs, profiles, strict=True)]
    assert transfer_table(entries)["M"].notna().all()


def test_what_is_noted_of_the_pixels_of_m_stands_on_both_figures(tmp_path):
    runs = [segmented(tmp_path / f"run{n}", 4 + n) for n in range(4)]
    profiles = [made_up.profile(tmp_path / f"profile{n}", seed=n) for n in range(4)]
    for n, profile in enumerate(profiles):
        colour = [0.5 * (n > 1)] * 3
        changed(profile, lambda record, mean=colour: record["settings"].update(normalisation={"mean": mean}))
    words = ["transfer", *map(str, runs), "--profiles", *map(str, profiles), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = "mean colour, which is not one (0 0 0 in run0, run1; 0.5 0.5 0.5 in run2, run3;"
    for name in ("transfer", "prediction"):
        assert said in json.loads((tmp_path / "out" / "figures" / f"{name}.json").read_text())["note"]
    html = page_of(tmp_path, [tmp_path / "out"], ["study"])
    assert f"Of M: Absent cells have each network&#x27;s own {said}" in html.replace("&#39;", "&#x27;")


# ------------------------------------------------------------------------------------------- the study


def study(tmp_path, **more):
    made = {"camvid": "c.tar", "coco": "o.tar", "weights": "w.pth", "out": tmp_path / "runs", "device": "cpu"}
    return transfer.Settings(**(made | more))


def test_every_command_of_the_plan_can_be_typed_and_both_weights_have_one_budget(tmp_path, monkeypatch, capsys):
    from experiments.commands import detect, segment

    steps, typed = transfer.steps(study(tmp_path)), []
    for module in (segment, detect):
        monkeypatch.setattr(module, "run", typed.append)
    for step in steps:
        assert main(list(step.words)) == 0
    assert len(steps) == 8 and len({step.out for step in steps}) == 8
    for random, trained in zip(typed[::2], typed[1::2], strict=True):
        assert (random.network.weights, trained.network.weights) == ("random", "w.pth")
        assert (random.recipe, random.loop, random.optim) == (trained.recipe, trained.loop, trained.optim)
    assert [step.words[step.words.index("--recipe") + 1] for step in steps[::2]] == list(transfer.SECONDS)
    short = transfer.steps(study(tmp_path, coco="", epochs=2))
    assert len(short) == 6 and all("--evaluate-every" in step.words for step in short)
    assert main(["reproduce", "transfer", "--coco", "o.tar", "--weights", "w.pth", "--plan"]) == 0
    assert "2 of 2 commands are left" in capsys.readouterr().out


def test_what_is_done_is_skipped_and_shown(tmp_path, monkeypatch, capsys):
    settings = study(tmp_path, coco="")
    for step in transfer.steps(settings):
        decoder, frozen = ("fpn" if "fpn" in step.out.name else "linear"), step.out.name.startswith("camvid-linear-")
        segmented(step.out, 8 if step.out.name.endswith("trained") else 5, decoder=decoder, frozen=frozen)
    assert transfer.run(settings) == 0
    kept = settings.kept / "camvid"
    table = pd.read_csv(kept / "transfer.csv")
    assert list(table["run"].unique()) == list(transfer.NAMES.values()) and table["setup"].nunique() == 3
    assert (table["difference"].dropna() > 0).all() and table["difference"].notna().sum() == 3
    assert len(list((kept / "tables").iterdir())) == 6 and (kept / "figures" / "transfer.png").is_file()
    assert "mIoU" in (kept / "report.html").read_text("utf-8")
    assert json.loads((kept / "study.json").read_text())["left"] == []
    assert (kept / "commands.sh").read_text().count("a2mim segment --recipe camvid:") == 6


def test_nothing_to_do_is_refused(capsys):
    assert main(["reproduce", "transfer"]) == 2
    assert "give --camvid, --coco or both" in capsys.readouterr().err
    assert main(["reproduce", "transfer", "--camvid", "c.tar", "--model", "resnet50"]) == 2
    assert "no weights of resnet50 were named" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--camvid nowhere.tar", "nowhere.tar': it does not exist"),
        ("--camvid scenes --coco nowhere", "nowhere': it does not exist"),
        ("--camvid scenes --weights nowhere.pth", "weights 'nowhere.pth' is no file"),
        ("--camvid scenes --device nodev", "there is no device 'nodev' here"),
    ],
)
def test_a_study_that_lacks_something_leaves_nothing(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("scenes", "w.pth"):
        (tmp_path / name).mkdir() if name == "scenes" else (tmp_path / name).touch()
    given = ["--weights", "w.pth", "--out", "runs", "--device", "cpu", *words.split()]
    assert main(["reproduce", "transfer", *given]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_segment_and_detect_are_done_when_their_loss_is_drawn(tmp_path):
    for command, folder in (("segment", segmented(tmp_path / "s", 5)), ("detect", detected(tmp_path / "d", 5))):
        assert finished(Step((command,), folder))
        (folder / "loss.png").unlink()
        assert not finished(Step((command,), folder))
