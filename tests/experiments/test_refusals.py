"""What cannot be is refused in one sentence: factories that fail, images that no patch divides, settings of methods out
of their range. Exit code 2, one line on stderr, nothing written."""

import sys
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.studies import lite0, pages
from tests.a2mim.tiny import write_images

FACTORY = """
import timm
from torch import nn

def raises(**given):
    raise KeyError("sigma")

def lacks(**given):
    import no_such_package

def leaves(**given):
    raise SystemExit(3)

def number(**given):
    return 3

class Misfit(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(7, 3)

    def forward(self, x):
        return self.last(x)

def misfit(**given):
    return Misfit()

def three(**given):
    return timm.create_model("test_resnet", num_classes=3)
"""
CPU = "--device cpu"
MEASURED = f"--weights random --image-size 32 --images 2 {CPU}"
TRAINED = f"--batch 8 --epochs 1 --warmup-epochs 0 --lr-batch 8 --workers 0 {CPU}"
COMMANDS = {
    "profile": f"profile MODEL --data photos --target 1 --grid 2 --radius 1 --ratios 0.3 --budget 200 {MEASURED}",
    "occlusion": f"occlusion MODEL --data photos --shares 0.5 --kinds random --grid 2 --seeds 1 {MEASURED}",
    "spectrum": f"spectrum MODEL --data photos {MEASURED}",
    "map": f"map MODEL --image photos/val/class0/0.png --weights random --image-size 32 --grid 3 --radius 1 {CPU}",
    "supervised": f"pretrain --method supervised --model MODEL --data photos --image-size 32 {TRAINED}",
    "knn": f"knn --model MODEL --data photos --image-size 32 --k 3 --workers 0 {CPU}",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for part, count in (("train", 3), ("val", 1)):
        write_images(folder / part, per_class=count, size=32)
    return folder


@pytest.fixture
def refused(photos, tmp_path, monkeypatch, capsys):
    """A function that starts a command in a fresh folder and returns the one line that it says."""
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "of_a_user.py").write_text(FACTORY)
    (tmp_path / "broken_by_a_user.py").write_text("def net(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def start(words):
        out = Path("out") / {"map": "out.png", "knn": "out.json"}.get(words.split()[0], "out")
        assert main([*words.split(), "--out", str(out)]) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert len([line for line in told if line.startswith("a2mim")]) == 1, told
        assert not [path for path in Path("out").rglob("*") if path.is_file()]
        return told[-1]

    yield start
    for name in ("of_a_user", "broken_by_a_user"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("command", "model", "said"),
    [
        ("profile", "of_a_user:raises", "'of_a_user:raises' fails: KeyError: 'sigma' (of_a_user.py, line 6)"),
        ("profile", "of_a_user:lacks", "fails: ModuleNotFoundError: No module named 'no_such_package'"),
        ("profile", "of_a_user:leaves", "fails: SystemExit: 3"),
        ("profile", "of_a_user:number", "returned a int, it must return an nn.Module"),
        ("profile", "broken_by_a_user:net", "fails: SyntaxError: invalid syntax (broken_by_a_user.py, line 1)"),
        ("supervised", "of_a_user:raises", "KeyError: 'sigma'"),
        ("profile", "of_a_user:misfit", "the model does not run on images of 32×32 px (RuntimeError: mat1 and mat2"),
        ("occlusion", "of_a_user:misfit", "the model does not run on images of 32×32 px (RuntimeError: mat1"),
        ("spectrum", "of_a_user:misfit", "the model does not run on images of 32×32 px (RuntimeError: mat1"),
        ("map", "of_a_user:misfit", "the model does not run on images of 32×32 px (RuntimeError: mat1"),
        ("supervised", "of_a_user:misfit", "Misfit has no forward_features"),
        ("knn", "of_a_user:misfit", "Misfit has no forward_head"),
        ("supervised", "of_a_user:three", "ResNet returns 1×3 for one image, not 1×4, a score of each class"),
        ("profile", "test_vit.nope", "timm has no weights 'test_vit.nope', it has test_vit.r160_in1k"),
    ],
)
def test_a_model_that_cannot_be(command, model, said, refused):
    assert said in refused(COMMANDS[command].replace("MODEL", model))


def test_a_named_data_set_without_its_folder(refused):
    words = COMMANDS["profile"].replace("MODEL", "test_resnet").replace("--data photos", "--data torch/cifar10")
    assert "the folder that holds the data set torch/cifar10 was not named: use --data-root" in refused(words)


@pytest.mark.parametrize("command", ["profile", "occlusion", "spectrum", "knn"])
def test_images_of_no_name_are_not_those_of_the_folder_that_one_is_in(command, refused):
    words = COMMANDS[command].replace("MODEL", "test_resnet").replace("--data photos", "--data=")
    assert "no images were named: use --data with a folder" in refused(words)


def test_a_study_of_no_images_leaves_nothing(refused):
    Path("text.tar").write_text("nothing of use\n")
    assert "text.tar" in refused("reproduce lite0 --data text.tar --device cpu")


@pytest.mark.parametrize("study", ["lite0 --data photos", "cifar10 --data-root photos"])
def test_a_study_without_its_device_leaves_nothing(study, refused):
    assert "there is no device 'nope' here" in refused(f"reproduce {study} --device nope")


def test_a_tag_that_timm_has_not_is_one_sentence_of_inspect(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "x.pth"), "--model", "test_vit.nope"]) == 2
    assert "timm has no weights 'test_vit.nope'" in capsys.readouterr().err


def test_more_neighbours_than_images_are_refused_before_features_are_computed(refused, monkeypatch):
    monkeypatch.setattr("experiments.training.frozen.frozen_features", None)
    words = COMMANDS["knn"].replace("MODEL", "test_resnet").replace("--k 3", "--k 99")
    assert "k = 99 neighbours cannot be had from 12 training images: choose another --k" in refused(words)


@pytest.mark.parametrize("command", ["profile", "supervised", "knn"])
@pytest.mark.parametrize(("size", "choice"), [(1, "16"), (3, "16"), (33, "32 or 48")])
def test_an_image_that_patches_do_not_divide(command, size, choice, refused):
    words = COMMANDS[command].replace("MODEL", "vit_tiny_patch16_224").replace("size 32", f"size {size}")
    assert f"patches of 16 px do not divide an image of {size} px: choose {choice} px" in refused(words)


@pytest.mark.parametrize(
    ("method", "setting", "said"),
    [
        ("a2mim", "mask_ratio=2", "2 is too large: use less than 1"),
        ("a2mim", "mask_ratio=0", "0 is too small: use more than 0"),
        ("a2mim", "fourier_weight=-1", "-1 is too small: use 0 or more"),
        ("a2mim", "token_lr_scale=-1", "-1 is too small: use 0 or more"),
        ("simmim", "mask_cell=-1", "-1 is too small: use 1 or more"),
        ("simclr", "temperature=0", "0 is too small: use more than 0"),
        ("simclr", "strength=9", "9 is too large: use at most 2.5"),
        ("simclr", "embedding=0", "0 is too small: use 1 or more"),
        ("mocov3", "temperature=-1", "-1 is too small: use more than 0"),
        ("mocov3", "momentum=2", "2 is too large: use at most 1"),
        ("byol", "hidden=-1", "-1 is too small: use 1 or more"),
        ("byol", "blur=(1,-1)", "1 -1 is too small: use 0 or more"),
        ("dino", "local_crops=-1", "-1 is too small: use 0 or more"),
        ("dino", "centre_momentum=1.5", "1.5 is too large: use at most 1"),
        ("dino", "teacher_temperature=0", "0 is too small: use more than 0"),
        ("dino", "local_scale=(0.4,0.05)", "local_scale of dino runs from 0.4 to 0.05"),
        ("mae", "decoder_depth=-1", "-1 is too small: use 1 or more"),
        ("mae", "decoder_heads=3", "3 heads do not divide 512 channels"),
        ("maskfeat", "hog_cell=0", "0 is too small: use 1 or more"),
        ("spark", "decoder_width=0", "0 is too small: use 1 or more"),
        ("supervised", "label_smoothing=2", "2 is too large: use less than 1"),
    ],
)
def test_a_setting_of_a_method_out_of_its_range(method, setting, said, refused):
    words = f"pretrain --method {method} --model test_vit --data photos --image-size 32 {TRAINED} --set {setting}"
    told = refused(words)
    assert said in told and setting.partition("=")[0] in told and method in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("profile MODEL --data photos --probe-epochs 3", "--probe-epochs has no effect without --probe"),
        ("profile MODEL --data photos --trust-factory", "--trust-factory has no effect without --checkpoints"),
        ("profile MODEL --data photos --published-pairs 3", "has no effect without --design published"),
        (
            "profile MODEL --data photos --images 2 --budget 200 --relative",
            "--relative has no effect without a precision",
        ),
        ("profile MODEL --data photos --pairs all --radius 1", "--radius has no effect without cells along one side"),
        (
            "profile MODEL --data photos --grid map.npy --radius 1",
            "--radius has no effect without cells along one side",
        ),
        (
            "occlusion MODEL --data photos --kinds random --saliency nowhere",
            "--saliency has no effect without --kinds salient",
        ),
        ("linear --model MODEL --data photos --queries 2", "--queries has no effect without --head attentive"),
        ("linear --model MODEL --data photos --heads 4", "--heads has no effect without --head attentive"),
        ("linear --model MODEL --data photos --attentive-lrs 1", "--attentive-lrs has no effect without --head"),
        (f"pretrain --model MODEL --data photos --val photos {TRAINED}", "a2mim is not evaluated while it trains"),
        (f"pretrain --model MODEL --data photos --val-split test {TRAINED}", "leave out --val, --val-split and --eval"),
        (f"pretrain --model MODEL --data photos --eval-size 64 {TRAINED}", "and give them to finetune, linear or knn"),
        (f"finetune --model MODEL --data photos --bce-threshold 0.2 {TRAINED}", "no effect without --loss bce"),
        (f"finetune --model MODEL --data photos --pictures-every 2 {TRAINED}", "a fine-tuning makes none"),
        (
            "pretrain --recipe cifar10:a2mim_vit_cpu --set mask_cell=8 --data photos",
            "--set mask_cell=8 and --mask-cell",
        ),
        (f"finetune --model MODEL --data photos --schedule multistep {TRAINED}", "without --milestones is a constant"),
        (f"finetune --model MODEL --data photos --ema-warmup {TRAINED}", "--ema-warmup has no effect without --ema"),
        (f"segment --model MODEL --data photos --overlap 0.5 {TRAINED}", "no effect without --evaluate slide"),
        (f"detect --model MODEL --data photos --scale 0.5 1 {TRAINED}", "--scale has no effect without --crop"),
        (f"detect --model MODEL --data photos --frozen --no-frozen-norms {TRAINED}", "no effect beside --frozen"),
    ],
)
def test_an_option_that_would_have_no_effect(words, said, refused):
    assert said in refused(words.replace("MODEL", "test_resnet"))


def test_a_network_of_grey_images_is_not_trained(refused):
    """Images are read as colours; the run had begun and failed at its first batch."""
    said = "training reads three channels and the network takes 1"
    words = f"--model test_vit --model-args in_chans=1 --data photos {TRAINED}"
    assert said in refused(f"pretrain --method simmim --mask-cell 16 {words}")
    assert said in refused(f"finetune {words}")


def test_a_run_that_took_such_an_option_before_goes_on(photos, tmp_path):
    words = f"finetune --model test_resnet --data {photos} --image-size 32 {TRAINED} --out {tmp_path / 'run'}".split()
    assert main([*words, "--loss", "bce", "--bce-threshold", "0.2", "--minutes", "1e-9"]) == 0
    record = tmp_path / "run" / "run.json"
    before = record.read_text()
    assert before.count('"loss": "bce"') == 1
    record.write_text(before.replace('"loss": "bce"', '"loss": "ce"'))
    assert main(["finetune", "--resume", str(tmp_path / "run"), "--device", "cpu"]) == 0


def test_a_study_whose_figure_fails_does_not_end_well(tmp_path, monkeypatch):
    monkeypatch.setattr(pages.cli, "main", lambda words: 2 if words[1] == "fig5" else 0)
    monkeypatch.setattr(lite0, "is_complete", lambda folder: True)
    monkeypatch.setattr(pages, "write_report", lambda *_: None)
    monkeypatch.setattr("figures.report.sections_of", lambda runs: [])
    monkeypatch.setattr("figures.report.open_runs", lambda folders, names: [])
    settings = lite0.Settings(data="photos", out=tmp_path)
    assert lite0.draw_all(settings) == 2
    monkeypatch.setattr(pages.cli, "main", lambda words: 0)
    assert lite0.draw_all(settings) == 0


def test_classes_among_the_arguments_of_the_model_are_refused(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    words = COMMANDS["profile"].replace("MODEL", "test_resnet").split()
    assert main([*words, "--model-args", "num_classes=0", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "give --num-classes N" in said and not (tmp_path / "run").exists()
