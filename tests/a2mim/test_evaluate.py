"""Accuracy, k-NN, linear probe and fine-tuning against brute force and hand-worked values; the exported weights."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn

from a2mim.checkpoints import load_into, read
from a2mim.data import make_source, open_images
from a2mim.evaluate.accuracy import accuracy, hits, pooled_features
from a2mim.evaluate.finetune import finetune
from a2mim.evaluate.knn import knn
from a2mim.evaluate.linear import Probe, fit, linear_probe, score
from a2mim.export import export_backbone, save
from a2mim.gallery import Gallery, make_gallery, normalisation
from a2mim.methods import SupervisedSettings
from a2mim.runs import open_run, read_run
from a2mim.settings import Augmentation, Data, Loop, Mixing, Optim
from tests.a2mim.tiny import WORLD, Net, log_of, same, tiny_images, write_images

GALLERY = Gallery(tiny_images(13), 16, (0.5,) * 3, (0.25,) * 3, batch=4)


def random_features(seed, images, classes=5, width=8, apart=1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width)) * apart
    target = rng.integers(0, classes, images)
    target[:classes] = range(classes)
    return torch.tensor(centres[target] + rng.normal(size=(images, width))).float(), torch.tensor(target)


# ------------------------------------------------------------------------------------------- accuracy and features


def test_hits_by_hand():
    scores = torch.tensor([[5.0, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5], [9, 0, 1, 2, 3, 4]])
    assert [int(n) for n in hits(scores, torch.tensor([0, 4, 1]))] == [1, 2]
    assert [int(n) for n in hits(scores[:, :3], torch.tensor([1, 2, 1]), (1, 5))] == [1, 3]


def test_accuracy_against_one_image_at_a_time():
    model = Net(classes=6)
    found = accuracy(model, GALLERY, WORLD)
    right = right5 = loss = 0.0
    model.eval()
    for batch in replace(GALLERY, batch=1).batches(WORLD):
        with torch.no_grad():
            logits = model(batch["image"])[0].numpy()
        target = int(batch["target"])
        rank = (logits > logits[target]).sum()
        right, right5 = right + (rank < 1), right5 + (rank < 5)
        loss += math.log(np.exp(logits - logits[target]).sum())
    assert found == pytest.approx(
        {"top1": 100 * right / 13, "top5": 100 * right5 / 13, "val_loss": loss / 13, "val_images": 13}, rel=1e-5
    )


def test_labels_outside_the_model_are_refused():
    with pytest.raises(ValueError, match="the label 3 is outside the model's 3 classes"):
        accuracy(Net(classes=3), GALLERY, WORLD)


def test_features_are_what_the_classifier_sees():
    model: Any = timm.create_model("test_resnet", num_classes=3).eval()
    gallery = replace(GALLERY, size=32)
    features, target, index = pooled_features(model, gallery, WORLD)
    assert index.tolist() == list(range(13)) and target.tolist() == [n % 4 for n in range(13)]
    logits = torch.cat([model(batch["image"]) for batch in gallery.batches(WORLD)])
    torch.testing.assert_close(model.get_classifier()(features), logits)


# ------------------------------------------------------------------------------------------- k nearest neighbours


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 0.01), (20, 1.0), (60, 0.5)])
def test_knn_against_brute_force(k, temperature):
    bank, bank_target = (x.numpy() for x in random_features(0, 60))
    query, query_target = (x.numpy() for x in random_features(1, 37))
    right = right5 = 0
    for x, target in zip(query, query_target, strict=True):
        cosine = [float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for y in bank]
        votes = np.zeros(5)
        for n in sorted(range(60), key=lambda n: -cosine[n])[:k]:
            votes[bank_target[n]] += math.exp(cosine[n] / temperature)
        order = np.argsort(-votes)
        right += order[0] == target
        right5 += target in order[:5] and votes[target] > 0
    arrays = (bank, bank_target, query, query_target)
    found = knn(*map(torch.tensor, arrays), k, temperature)  # type: ignore[call-arg, arg-type]
    assert found == pytest.approx({"top1": 100 * right / 37, "top5": 100 * right5 / 37})
    assert 20 < found["top1"] < 100


def test_classes_without_a_vote_are_no_guesses():
    """With one neighbour there is one guess: four more were the first classes by number, and half of them right."""
    bank, queries = random_features(0, 50, classes=10), random_features(1, 200, classes=10)
    found = knn(*bank, *queries, k=1)
    assert found["top5"] == found["top1"] < 100


def test_knn_needs_k_images():
    features, target = random_features(0, 10)
    with pytest.raises(ValueError, match="k = 20 neighbours cannot be had from 10 training images"):
        knn(features, target, features, target)


def test_an_image_of_a_class_without_training_images_is_wrong():
    """As where --limit leaves none of them; the others count as they did."""
    bank, (query, target) = random_features(0, 60), random_features(1, 30)
    strange = target.clone()
    strange[:10] = 7
    probe = Probe(epochs=2, batch=32, lrs=(0.1,))
    for found in (knn, lambda *pairs: linear_probe(*pairs, probe)):
        rest, whole = found(*bank, query[10:], target[10:]), found(*bank, query, strange)
        assert whole["top1"] == pytest.approx(rest["top1"] * 20 / 30) and rest["top1"] > 0
        for wrong in ((bank[0], bank[1] - 1, query, target), (*bank, query, target - 1)):
            with pytest.raises(ValueError, match="the label -1 is outside the model's"):
                found(*wrong)


# ------------------------------------------------------------------------------------------- linear probe


def test_classifiers_are_fitted_by_sgd_with_momentum_and_a_cosine():
    """Against the update rule written out in NumPy."""
    x, target = (t.numpy() for t in random_features(0, 40))
    probe = Probe(epochs=3, batch=16, weight_decay=0.01, seed=4)
    heads = fit(torch.tensor(x), torch.tensor(target), 5, probe, (0.1, 0.5))
    generator = torch.Generator().manual_seed(4)
    orders = [torch.randperm(40, generator=generator).numpy() for _ in range(3)]
    for head, lr in zip(heads, (0.1, 0.5), strict=True):
        weight, bias, velocity_w, velocity_b = np.zeros((5, 8)), np.zeros(5), np.zeros((5, 8)), np.zeros(5)
        for step in range(6):
            rows = orders[step // 2][step % 2 * 16 :][:16]
            logits = x[rows] @ weight.T + bias
            wrong = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(5)[target[rows]]
            velocity_w = 0.9 * velocity_w + wrong.T @ x[rows] / 16 + 0.01 * weight
            velocity_b = 0.9 * velocity_b + wrong.mean(0) + 0.01 * bias
            rate = lr * 16 / 256 * (1 + math.cos(math.pi * step / 6)) / 2
            weight, bias = weight - rate * velocity_w, bias - rate * velocity_b
        np.testing.assert_allclose(head.weight.detach(), weight, atol=1e-5)
        np.testing.assert_allclose(head.bias.detach(), bias, atol=1e-5)


def test_fewer_images_than_a_batch_are_a_batch_of_that_many():
    """With the rate of one: 40 images for a batch of 1,024 are trained on as for one of 40."""
    x, target = random_features(0, 40)
    (few,), (exact,) = (fit(x, target, 5, Probe(epochs=3, batch=batch), (0.1,)) for batch in (1024, 40))
    assert same(few.state_dict(), exact.state_dict())


def test_linear_probe_chooses_on_held_out_images_and_reports_the_test():
    train, test = random_features(0, 300, apart=2.0), random_features(1, 100, apart=2.0)
    result = linear_probe(*train, *test, Probe(epochs=20, batch=64, lrs=(1e38, 0.3)))
    assert result["lr"] == 0.3 and result["held_out"]["0.3"] > result["held_out"]["1e+38"]
    # the Bayes classifier of normal classes of equal spread: the nearest centre
    centres = torch.stack([train[0][train[1] == label].mean(0) for label in range(5)])
    nearest = (torch.cdist(test[0], centres).argmin(1) == test[1]).float().mean() * 100
    assert abs(result["top1"] - nearest) < 6 and result["top1"] > 80
    shuffled = test[1].flip(0)
    assert linear_probe(*train, test[0], shuffled, Probe(epochs=5))["top1"] < 45


def test_linear_probe_does_not_care_about_scale():
    train, test = random_features(0, 100), random_features(1, 50)
    scaled = [(x * torch.logspace(-4, 4, 8) + 7, target) for x, target in (train, test)]
    probe = Probe(epochs=10, batch=32, lrs=(0.1,))
    first, second = linear_probe(*train, *test, probe), linear_probe(*scaled[0], *scaled[1], probe)
    assert abs(first["top1"] - second["top1"]) <= 4


def test_a_channel_that_is_silent_in_training_does_not_drown_the_others():
    train, test = random_features(0, 200, apart=3.0), random_features(1, 200, apart=3.0)
    silent = [torch.cat([x, torch.zeros(len(x), 1)], 1) for x in (train[0], test[0])]
    silent[0][0, -1], silent[1][::2, -1] = 1e-9, 1.0
    probe = Probe(epochs=20, lrs=(0.3,))
    whole = linear_probe(*train, *test, probe)["top1"]
    assert linear_probe(silent[0], train[1], silent[1], test[1], probe)["top1"] > whole - 10


def test_a_classifier_that_diverged_scores_nothing():
    head = nn.Linear(2, 2)
    nn.init.constant_(head.weight, math.nan)
    assert score(head, torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)) == (0, 0)
    with pytest.raises(ValueError, match="5 training images are too few"):
        linear_probe(*random_features(0, 5), *random_features(1, 5), Probe())
    with pytest.raises(ValueError, match="features of one training image have no deviation to be divided by: use two"):
        linear_probe(torch.ones(1, 8), torch.zeros(1).long(), *random_features(1, 5), Probe(lrs=(0.1,)))


# ------------------------------------------------------------------------------------------- fine-tuning and export


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder of noise in four colour casts, of which two are alike, learnt from scratch."""
    folder = tmp_path_factory.mktemp("tuned")
    write_images(folder / "train", per_class=16)
    write_images(folder / "val", per_class=4)
    train_images = open_images(Data(data=str(folder)))
    val_images = open_images(Data(data=str(folder)), train=False, classes=train_images.classes)
    torch.manual_seed(0)
    architecture: dict[str, Any] = {"architecture": "test_resnet", "num_classes": 4}
    model = timm.create_model("test_resnet", num_classes=4)
    view = Augmentation(image_size=16, scale=(0.5, 1.0))
    mixing = Mixing(mixup=0.2, smoothing=0.1)
    source = make_source(train_images, (view,), model, WORLD.device, mixing=mixing, classes=4)
    gallery = make_gallery(val_images, model, 16, WORLD.device)
    optim = Optim(epochs=6, lr=3e-3, lr_batch=16, warmup_epochs=1, layer_decay=0.9)
    loop = Loop(batch=16, ema=0.5)
    open_run(folder / "run", "finetune", {})
    result = finetune(
        model, source, gallery, folder / "run", optim, loop, WORLD, architecture, SupervisedSettings(loss="bce")
    )
    return folder / "run", result, gallery, architecture


def test_finetuning_learns_and_records_what_it_reached(tuned):
    folder, result, _, _ = tuned
    assert result["best"]["top1"] >= 50 and result["finished"]
    assert read_run(folder)["best"] == result["best"]
    evaluated = [line["top1"] for line in log_of(folder) if line["kind"] == "epoch"]
    assert len(evaluated) == 6 and max(evaluated) == result["best"]["top1"] and evaluated[-1] == result["last"]["top1"]


def test_exported_weights_reload_in_timm_and_reach_the_same(tuned):
    folder, result, gallery, architecture = tuned
    path = folder / "backbone.safetensors"
    found = read(path).architecture
    assert found == architecture
    name = found.pop("architecture")
    reloaded = timm.create_model(name, checkpoint_path=path, **found)
    assert accuracy(reloaded, gallery, WORLD) == pytest.approx(
        {k: result["last"][k] for k in ("top1", "top5", "val_loss", "val_images")}
    )
    ours = timm.create_model(name, **found)
    assert load_into(ours, path).complete and same(ours.state_dict(), reloaded.state_dict())


HALF, IMAGENET = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OWN = ((0.1, 0.2, 0.3), (0.9, 0.8, 0.7))


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("vit_tiny_patch16_224", HALF),  # no head: DINO's files look so, and theirs are ImageNet's
        ("vit_tiny_patch16_224", IMAGENET),
        ("vit_tiny_patch16_224", OWN),
        ("beit_base_patch16_224", IMAGENET),  # BEiT's own are 0.5
        ("convnext_atto", HALF),  # ConvNeXt's own are ImageNet's
        ("test_resnet", OWN),
    ],
)
def test_an_exported_backbone_is_shown_images_as_it_was_trained(tmp_path, name, pixels, classes):
    """Also where it is a family's file by its keys; and its norms keep their epsilon."""
    mean, std = pixels
    small = {"embed_dim": 12, "depth": 1, "num_heads": 3} if "vit" in name or "beit" in name else {}
    arguments = {"num_classes": classes, **small, "pretrained_cfg_overlay": {"mean": mean, "std": std}}
    model: Any = timm.create_model(name, **arguments)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-3
    del arguments["pretrained_cfg_overlay"]  # as where weights of a file brought them along
    path = tmp_path / "backbone.safetensors"
    export_backbone(model, path, {"architecture": name, **arguments})
    assert not read(path).assumed
    again: Any = timm.create_model(name, **arguments)
    assert load_into(again, path).complete and normalisation(again) == pixels
    assert {each.eps for each in again.modules() if isinstance(each, torch.nn.LayerNorm)} <= {1e-3}


def test_norms_of_several_epsilons_keep_theirs(tmp_path):
    model: Any = timm.create_model("test_vit", num_classes=0)
    model.norm.eps, model.blocks[0].norm1.eps = 1e-3, 1e-4
    export_backbone(model, tmp_path / "x.safetensors", {"architecture": "test_vit", "num_classes": 0})
    again: Any = timm.create_model("test_vit", num_classes=0)
    load_into(again, tmp_path / "x.safetensors")
    norms = [[each.eps for each in net.modules() if isinstance(each, torch.nn.LayerNorm)] for net in (model, again)]
    assert norms[0] == norms[1] and len(set(norms[0])) > 1


def test_an_export_of_before_is_the_models_own(tmp_path):
    """Which states its model and not how images are normalised: it is no file of another family."""
    architecture = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "embed_dim": 12, "num_heads": 3}
    model: Any = timm.create_model(architecture["architecture"], num_classes=0, embed_dim=12, num_heads=3)
    save(model.state_dict(), tmp_path / "x.safetensors", {"format": "pt", "architecture": json.dumps(architecture)})
    checkpoint = read(tmp_path / "x.safetensors")
    assert checkpoint.pixels is None and "those of timm's model" in checkpoint.assumed["pixels"]


def test_export_is_whole_and_in_timms_names(tmp_path):
    model: Any = timm.create_model("test_vit", num_classes=0)
    model.to(memory_format=torch.channels_last)
    export_backbone(model, tmp_path / "x.safetensors", {"architecture": "test_vit", "num_classes": 0})
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(model.state_dict())
        assert json.loads(file.metadata()["architecture"]) == {"architecture": "test_vit", "num_classes": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
