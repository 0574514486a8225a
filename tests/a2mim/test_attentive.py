"""The attentive head against attention written out in NumPy, what it sees, and which few labelled images are drawn."""

import json

import numpy as np
import pytest
import timm
import torch

from a2mim.evaluate.attentive import AttentiveHead, as_tokens, attentive_probe
from a2mim.evaluate.fewshot import draw
from a2mim.evaluate.linear import Probe, held_out_tenth, linear_probe
from a2mim.layouts import read_layout
from experiments.cli import main
from tests.a2mim.tiny import write_images


def random_head(queries=3, heads=2, width=8, classes=5) -> AttentiveHead:
    generator = torch.Generator().manual_seed(1)
    head = AttentiveHead(torch.randn(width, generator=generator), torch.rand(width) + 0.5, classes, queries, heads, 0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return head


def by_hand(head: AttentiveHead, x_BLD: np.ndarray) -> np.ndarray:
    state = {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}
    width, heads = x_BLD.shape[2], head.attention.num_heads
    x_BLD = (x_BLD - state["mean"]) / state["deviation"]
    weights = np.split(state["attention.in_proj_weight"], 3)
    biases = np.split(state["attention.in_proj_bias"], 3)
    q_QD = state["queries"][0] @ weights[0].T + biases[0]
    logits = []
    for x_LD in x_BLD:
        k_LD, v_LD = (x_LD @ w.T + b for w, b in zip(weights[1:], biases[1:], strict=True))
        parts = []
        for columns in np.split(np.arange(width), heads):
            score_QL = q_QD[:, columns] @ k_LD[:, columns].T / np.sqrt(width / heads)
            share_QL = np.exp(score_QL) / np.exp(score_QL).sum(1, keepdims=True)
            parts.append(share_QL @ v_LD[:, columns])
        pooled_QD = np.concatenate(parts, 1) @ state["attention.out_proj.weight"].T + state["attention.out_proj.bias"]
        logits.append(pooled_QD.mean(0) @ state["classifier.weight"].T + state["classifier.bias"])
    return np.stack(logits)


@pytest.mark.parametrize(("queries", "heads"), [(1, 1), (1, 4), (3, 2)])
def test_the_head_is_attention_of_learned_queries(queries, heads):
    head = random_head(queries, heads)
    x_BLD = torch.randn(4, 7, 8)
    expected = by_hand(head, x_BLD.double().numpy())
    np.testing.assert_allclose(head(x_BLD).detach(), expected, rtol=1e-4, atol=1e-4)


def test_the_order_of_tokens_does_not_matter_and_each_of_them_does():
    head, x_BLD = random_head(), torch.randn(2, 9, 8)
    torch.testing.assert_close(head(x_BLD[:, torch.randperm(9)]), head(x_BLD), rtol=1e-4, atol=1e-5)
    for token in range(9):
        changed = x_BLD.clone()
        changed[:, token] += 1
        assert (head(changed) - head(x_BLD)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="3 heads of attention do not divide tokens of 8 numbers"):
        random_head(heads=3)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "swin_tiny_patch4_window7_224"])
def test_tokens_are_all_that_comes_before_pooling(name):
    more = (
        {"img_size": 64, "embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)} if "swin" in name else {}
    )
    model = timm.create_model(name, num_classes=0, **more).eval()
    size = 64 if "swin" in name else 160 if "vit" in name else 96
    image = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = model.forward_features(image)
        tokens_BLD = as_tokens(read_layout(model, size), model, features)
        (map_BCHW,) = model.forward_intermediates(image, indices=1, norm=True, intermediates_only=True)
    if name == "test_resnet":
        map_BCHW = features
    prefix = getattr(model, "num_prefix_tokens", 0)
    assert tokens_BLD.shape[1] == prefix + map_BCHW.shape[2] * map_BCHW.shape[3]
    torch.testing.assert_close(tokens_BLD[:, prefix:], map_BCHW.flatten(2).transpose(1, 2))


MARKED = Probe(epochs=60, batch=100, lrs=(1e-2,))


def marked_tokens(seed, images=300, length=6) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of which one, anywhere, carries the label and a mark; the others' mean cancels it."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 2, (images,), generator=generator)
    x = torch.randn(images, length, 8, generator=generator) * 0.1
    place, sign = torch.randint(0, length, (images,), generator=generator), 2.0 * target - 1
    x[:, :, 0] -= sign[:, None] / (length - 1)
    rows = torch.arange(images)
    x[rows, place, 0] = sign
    x[rows, place, 1] = 3.0
    return x, target


def test_the_head_finds_what_the_mean_of_all_tokens_hides():
    train, test = marked_tokens(0), marked_tokens(1, 200)
    found = attentive_probe(*train, *test, MARKED, heads=2)
    pooled = linear_probe(train[0].mean(1), train[1], test[0].mean(1), test[1], Probe(epochs=30, batch=64, lrs=(0.1,)))
    assert found["top1"] > 95 and pooled["top1"] < 75
    assert found == attentive_probe(*train, *test, MARKED, heads=2)


# ------------------------------------------------------------------------------------------- few labelled images


def test_a_share_is_of_each_class_and_drawn_by_the_seed():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 3], [100, 30, 51]))
    names = ["a", "b", "c", "d"]
    drawn = draw(labels, names, 0.1, 0, 7)
    assert np.bincount(labels[drawn]).tolist() == [10, 3, 0, 5] and (np.diff(drawn) > 0).all()
    assert np.bincount(labels[draw(labels, names, 1.0, 4, 7)]).tolist() == [4, 4, 0, 4]
    assert drawn.tolist() == draw(labels, names, 0.1, 0, 7).tolist() != draw(labels, names, 0.1, 0, 8).tolist()
    # every image is as likely: of 400 draws of 10 in 100, a mean of 40 with a deviation of 6
    times = np.bincount(np.concatenate([draw(labels, names, 0.1, 0, seed) for seed in range(400)]))
    assert times[labels == 0].min() > 10 and times[labels == 0].max() < 70
    with pytest.raises(
        ValueError, match=r"--labels 0\.01 leaves none of the 30 images of the class b: use more than 0\.017"
    ):
        draw(labels, names, 0.01, 0, 0)
    with pytest.raises(ValueError, match="the class b has 30 images, and --per-class asks for 31"):
        draw(labels, names, 1.0, 31, 0)


def test_a_tenth_of_each_class_is_held_out():
    target = torch.tensor(np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 45, 10])))
    for seed in range(5):
        held = held_out_tenth(target, seed)
        counts = torch.bincount(target[held], minlength=3).tolist()
        assert counts[0] == 10 and counts[1] in (4, 5) and counts[2] == 1 and sum(counts) == 16


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    write_images(folder / "train", per_class=6, size=32)
    write_images(folder / "val", per_class=2, size=32)
    return folder


def probe_words(data, out, *more):
    words = f"linear --model test_vit --data {data} --image-size 32 --workers 0 --device cpu --epochs 3 --out {out}"
    return [*words.split(), *more]


def test_the_table_holds_both_heads_and_every_seed(data, tmp_path, capsys):
    more = ["--head", "attentive", "--per-class", "3", "--seeds", "2", "--lrs", "0.1", "--attentive-lrs", "1e-3"]
    for name in ("one", "two"):
        assert main(probe_words(data, tmp_path / f"{name}.json", *more)) == 0
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert one["table"] == two["table"]
    rows = [(row["head"], row["seed"], row["train_images"]) for row in one["table"]]
    assert rows == [(head, seed, 12) for seed in (0, 1) for head in ("linear", "attentive")]
    of_head = [row["top1"] for row in one["table"] if row["head"] == "attentive"]
    assert one["top1"] == one["heads"]["attentive"]["top1"] == np.mean(of_head)
    assert one["top1_low"] <= one["top1"] <= one["top1_high"] and one["test_images"] == 8
    said = capsys.readouterr().out
    assert "linear: top-1" in said and "attentive: top-1" in said and "12 labelled, mean of 2 seeds" in said


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--per-class", "7"), "class0 has 6 images, and --per-class asks for 7"),
        (("--labels", "0.05"), "--labels 0.05 leaves none of the 6 images of the class class0"),
        (("--labels", "0.5", "--per-class", "2"), "give one of them"),
        (("--per-class", "1"), "there is none to choose a learning rate by: give one with --lrs"),
        (("--per-class", "2"), "8 training images are too few for a linear probe"),
        (("--head", "attentive", "--heads", "5"), "5 heads of attention do not divide tokens of 64 numbers"),
    ],
)
def test_what_cannot_be_is_refused(data, tmp_path, capsys, more, sentence):
    assert main(probe_words(data, tmp_path / "x.json", *more)) == 2
    assert sentence in capsys.readouterr().err and not list(tmp_path.iterdir())
