"""The game, against a plain loop that builds every masked image by hand and reads v from NumPy formulas."""

from operator import attrgetter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from interactions.game import NonFiniteValueError, PatchGame
from interactions.grid import PatchGrid
from interactions.outputs import DoesNotRun, is_out_of_memory
from interactions.speed import BATCHES
from interactions.values import CLASS_VALUES
from tests.interactions.tiny import CLASSES, SIZE, Photos, network

SIDE = 3
GRID = PatchGrid(SIDE)
CELL = SIZE // SIDE
IMAGES = torch.stack([Photos(3)[k][0] for k in range(3)])
TARGETS = [3, 0, 4]


def some_coalitions(count=11, seed=0):
    """Random coalitions, the empty and the full one among them."""
    coalitions_BN = torch.rand(count, SIDE**2, generator=torch.Generator().manual_seed(seed)) < 0.5
    coalitions_BN[0], coalitions_BN[-1] = False, True
    return coalitions_BN


def masked(image_CHW, coalition_N, absent):
    """The image with every other cell showing `absent` (C×1×1), cell by cell."""
    x_CHW = torch.zeros_like(image_CHW) + absent
    for player in np.flatnonzero(coalition_N):
        top, left = (player // SIDE) * CELL, (player % SIDE) * CELL
        x_CHW[:, top : top + CELL, left : left + CELL] = image_CHW[:, top : top + CELL, left : left + CELL]
    return x_CHW


def test_a_model_in_training_mode_is_not_measured():
    model = Headed()
    game = PatchGame(model, IMAGES[0], 3, GRID)
    model.train()
    with pytest.raises(ValueError, match=r"the model is in training mode.*call its eval\(\) first"):
        game(some_coalitions())
    model.eval()
    assert game(some_coalitions()).isfinite().all()


def test_bytes_are_no_normalised_pixels():
    """They were played as if they were: an array's alone, since a model refuses a tensor of bytes."""
    photo = np.full((3, 12, 12), 200, dtype=np.uint8)
    with pytest.raises(ValueError, match="the images are uint8: bytes are no normalised pixels"):
        PatchGame(Headed(), photo, 3, GRID)


def logits_by_hand(model, images, coalitions_BN, image_B, absent=lambda image: 0.0):
    """One forward pass per coalition, float64 NumPy B×K."""
    rows = []
    for coalition_N, k in zip(coalitions_BN.tolist(), image_B, strict=True):
        with torch.no_grad():
            rows.append(model(masked(images[k], coalition_N, absent(images[k]))[None])[0].double().numpy())
    return np.array(rows)


def value_by_hand(name, z_BK, target_B):
    p_BK = np.exp(z_BK) / np.exp(z_BK).sum(1, keepdims=True)
    z_B, p_B = z_BK[np.arange(len(z_BK)), target_B], p_BK[np.arange(len(z_BK)), target_B]
    return {"log_odds": np.log(p_B / (1 - p_B)), "log_prob": np.log(p_B), "logit": z_B, "probability": p_B}[name]


class Watch(nn.Module):
    """A network that notes what comes in, what goes out and which flags are set; `limit` is what fits in memory."""

    def __init__(self, limit=10**9, model=None):
        super().__init__()
        self.model, self.limit = model or network(), limit
        self.batches, self.outputs, self.flags = [], [], []

    def forward(self, x_BCHW):
        self.batches.append(x_BCHW)
        self.flags.append(flags())
        if len(x_BCHW) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        self.outputs.append(self.model(x_BCHW))
        return self.outputs[-1]

    @property
    def sizes(self):
        return [len(x_BCHW) for x_BCHW in self.batches]


# Values


@pytest.mark.parametrize("name", CLASS_VALUES)
@pytest.mark.parametrize(
    ("baseline", "absent"),
    [
        ("mean", lambda image: 0.0),
        ("image_mean", lambda image: image.mean((1, 2))[:, None, None]),
        ("black", lambda image: torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])[:, None, None]),
    ],
)
def test_values_are_those_of_a_plain_loop(name, baseline, absent):
    model, coalitions_BN = network(), some_coalitions()
    values_B = PatchGame(model, IMAGES[0], 3, GRID, name, baseline, batch_size=4)(coalitions_BN)
    z_BK = logits_by_hand(model, IMAGES, coalitions_BN, [0] * 11, absent)
    assert (values_B.dtype, values_B.shape) == (torch.float64, (11,))
    assert np.ptp(values_B.numpy()) > 0.01
    np.testing.assert_allclose(values_B, value_by_hand(name, z_BK, 3), rtol=1e-4, atol=1e-5)


def test_log_odds_of_the_mean_colour_are_the_default():
    game = PatchGame(network(), IMAGES[0], 3, GRID, batch_size=4)
    z_BK = logits_by_hand(network(), IMAGES, some_coalitions(), [0] * 11)
    np.testing.assert_allclose(game(some_coalitions()), value_by_hand("log_odds", z_BK, 3), rtol=1e-4, atol=1e-5)


def test_a_batch_mixes_images_with_their_own_target_and_baseline():
    model, coalitions_BN, image_B = network(), some_coalitions(), [2, 0, 1, 1, 0, 2, 2, 1, 0, 0, 1]
    game = PatchGame(model, IMAGES, torch.tensor(TARGETS), GRID, "log_odds", "image_mean", batch_size=4)
    values_B = game(coalitions_BN, torch.tensor(image_B))
    z_BK = logits_by_hand(model, IMAGES, coalitions_BN, image_B, lambda image: image.mean((1, 2))[:, None, None])
    target_B = np.array(TARGETS)[image_B]
    np.testing.assert_allclose(values_B, value_by_hand("log_odds", z_BK, target_B), rtol=1e-4, atol=1e-5)


def test_one_image_of_many_is_the_game_on_it_alone():
    game = PatchGame(network(), IMAGES, torch.tensor(TARGETS), GRID, baseline="blur", batch_size=16)
    assert (game.n_images, game.n_players) == (3, 9)
    for k in range(3):
        alone = PatchGame(network(), IMAGES[k], TARGETS[k], GRID, baseline="blur", batch_size=16)
        torch.testing.assert_close(game.of(k)(some_coalitions()), alone(some_coalitions()), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(game(some_coalitions(), k), game.of(k)(some_coalitions()))
    assert game.of(0).n_players == 9


@pytest.mark.parametrize("batch_size", [1, 3, 11, 64])
def test_values_do_not_depend_on_the_batch_size(batch_size):
    watch = Watch()
    game = PatchGame(watch, IMAGES[0], 1, GRID, batch_size=batch_size)
    del watch.batches[:]
    values_B = game(some_coalitions())
    assert max(watch.sizes) == min(batch_size, 11)
    assert sum(watch.sizes) == 11
    reference = PatchGame(network(), IMAGES[0], 1, GRID, batch_size=5)(some_coalitions())
    torch.testing.assert_close(values_B, reference, rtol=1e-5, atol=1e-6)


def test_the_model_is_evaluated_not_trained():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3), network()).train()
    game = PatchGame(model, IMAGES[0], 1, GRID, "logit", batch_size=4)
    z_BK = logits_by_hand(nn.Sequential(nn.BatchNorm2d(3), network()).eval(), IMAGES, some_coalitions(), [0] * 11)
    np.testing.assert_allclose(game(some_coalitions()), z_BK[:, 1], rtol=1e-4, atol=1e-5)


# The head-free value


class Headed(nn.Module):
    """A model that says how its features are pooled, as timm's do."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, CLASSES)

    def forward_features(self, x_BCHW):
        return self.stem(x_BCHW).tanh()

    def forward_head(self, features_BCHW, pre_logits=False):
        pooled_BC = features_BCHW.mean((2, 3))
        return pooled_BC if pre_logits else self.head(pooled_BC)

    def forward(self, x_BCHW):
        return self.forward_head(self.forward_features(x_BCHW))


def test_cosine_compares_pooled_features_with_those_of_the_whole_image():
    torch.manual_seed(0)
    model, coalitions_BN, image_B = Headed(), some_coalitions(), [2, 0, 1, 1, 0, 2, 2, 1, 0, 0, 1]
    values_B = PatchGame(model, IMAGES, None, GRID, "cosine", batch_size=4)(
        coalitions_BN, torch.tensor(image_B)
    ).numpy()
    for value, coalition_N, k in zip(values_B, coalitions_BN.tolist(), image_B, strict=True):
        with torch.no_grad():
            pair = torch.stack([masked(IMAGES[k], coalition_N, 0.0), IMAGES[k]])
            a, b = model.stem(pair).tanh().mean((2, 3)).double().numpy()
        assert value == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)), abs=1e-5)
    assert values_B[-1] == pytest.approx(1, abs=1e-6)  # the whole image
    assert values_B[:-1].max() < 1 - 1e-4


def test_cosine_of_the_whole_image_is_1_also_without_a_head():
    game = PatchGame(network(), IMAGES, None, GRID, "cosine", batch_size=4)
    np.testing.assert_allclose(game(torch.ones(3, 9, dtype=torch.bool), torch.arange(3)), 1, atol=1e-6)


# Batches and memory


def test_out_of_memory_halves_the_batch_and_is_noted():
    watch = Watch(limit=5)
    progress: list[int] = []
    game = PatchGame(watch, IMAGES, TARGETS_I := torch.tensor(TARGETS), GRID, batch_size=23)
    game.on_batch = progress.append
    image_B = torch.arange(11) % 3
    del watch.batches[:]
    values_B = game(some_coalitions(), image_B)
    assert watch.sizes == [11, 11, 5, 5, 1]  # 23 → 11 → 5
    assert (game.batch_size, game.backed_off) == (5, True)
    assert (game.passes, progress) == (11, [5, 5, 1])
    roomy = PatchGame(network(), IMAGES, TARGETS_I, GRID, batch_size=23)
    torch.testing.assert_close(values_B, roomy(some_coalitions(), image_B), rtol=1e-5, atol=1e-6)
    assert not roomy.backed_off


def test_out_of_memory_within_a_run_keeps_what_was_done():
    watch = Watch()
    game = PatchGame(watch, IMAGES[0], 1, GRID, batch_size=8)
    expected = game(some_coalitions(20))
    original = watch.forward

    def filling_up(x_BCHW):
        watch.limit = 3 if len(watch.batches) == 1 else watch.limit
        return original(x_BCHW)

    watch.forward = filling_up  # type: ignore[method-assign]
    del watch.batches[:]
    torch.testing.assert_close(game(some_coalitions(20)), expected, rtol=1e-5, atol=1e-6)
    assert watch.sizes == [8, 8, 4, 2, 2, 2, 2, 2, 2]


def test_one_coalition_that_does_not_fit_is_an_error():
    watch = Watch()
    game = PatchGame(watch, IMAGES[0], 1, GRID, batch_size=4)
    watch.limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        game(some_coalitions())
    assert game.batch_size == 1


def test_other_errors_of_the_model_are_not_taken_for_lack_of_memory():
    def broken(x_BCHW):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    watch = Watch()
    game = PatchGame(watch, IMAGES[0], 1, GRID, batch_size=4)
    watch.forward = broken  # type: ignore[method-assign]
    with pytest.raises(DoesNotRun, match=r"the model does not run on images of .*RuntimeError: mat1 and mat2"):
        game(some_coalitions())
    assert (game.batch_size, game.backed_off) == (4, False)


def test_main_memory_that_runs_out_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_the_batch_size_is_found_by_itself():
    game = PatchGame(network(), IMAGES[0], 1, GRID)
    values_B = game(some_coalitions())
    assert game.batch_size in BATCHES["cpu"]
    assert game.passes == 11 and game.trials > 0
    reference = PatchGame(network(), IMAGES[0], 1, GRID, batch_size=5)(some_coalitions())
    torch.testing.assert_close(values_B, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({8: 10, 16: 20, 32: 20.1, 64: 20.2}, 16),  # larger ones only where they gain
        ({8: 10, 16: 10, 32: 20, 64: 20}, 32),  # which one need not, for the next to do
        ({8: 10, 16: 20, 32: 30, 64: None}, 32),  # and fit
        ({8: 10, 16: 9, 32: 8, 64: 7}, 8),
        ({8: 1, 16: 2, 32: 3, 64: 4}, 64),
        ({8: None}, 8),  # the run itself backs off further
    ],
)
def test_tuning_finds_where_speed_or_memory_ends(monkeypatch, rates, best):
    def seconds(task, device):
        size = task.args[0]
        if rates[size] is None:
            raise torch.OutOfMemoryError("out of memory")
        return size / rates[size] / 100

    monkeypatch.setattr("interactions.speed.seconds_of", seconds)
    assert PatchGame(network(), IMAGES[0], 1, GRID).tune() == (best, pytest.approx(100 * (rates[best] or 0)))


def test_tuning_runs_full_batches():
    watch = Watch(limit=4)
    game = PatchGame(watch, IMAGES, torch.tensor(TARGETS), GRID)
    del watch.batches[:]
    assert game.tune((2, 6, 7))[0] == 2
    assert {*watch.sizes} == {2, 6} and watch.sizes.count(6) == 1


def test_other_images_keep_the_network_and_the_batch_size():
    game = PatchGame(network(), IMAGES[:1], 3, GRID, batch_size=4)
    game(some_coalitions())
    other = game.holding(IMAGES[1:], torch.tensor(TARGETS[1:]), ["b", "c"])
    assert (other.batch_size, other.passes, other.n_images, other.names) == (4, 0, 2, ["b", "c"])
    assert (game.passes, game.n_images, game.names) == (11, 1, ["image 0"])
    fresh = PatchGame(network(), IMAGES[1:], torch.tensor(TARGETS[1:]), GRID, batch_size=4)
    torch.testing.assert_close(other.of(1)(some_coalitions()), fresh.of(1)(some_coalitions()))
    with pytest.raises(ValueError, match="1 targets for 2 images"):
        game.holding(IMAGES[1:], 9)


# Precision, layout, compilation


backends: Any = torch.backends
FLAGS = {
    "cuDNN": lambda: backends.cudnn.allow_tf32,
    "products": torch.get_float32_matmul_precision,
    "cuDNN convolution": lambda: backends.cudnn.conv.fp32_precision,
    "cuBLAS": lambda: backends.cuda.matmul.fp32_precision,
    "CPU products": lambda: backends.mkldnn.matmul.fp32_precision,
    "CPU convolution": lambda: backends.mkldnn.conv.fp32_precision,
}
PARTS = ("cuDNN convolution", "cuBLAS", "CPU products", "CPU convolution")


def flags():
    """Every precision flag; None where PyTorch will not read an old flag because a new one contradicts it."""
    return {name: _or_none(read) for name, read in FLAGS.items()}


def _or_none(read):
    try:
        return read()
    except RuntimeError:
        return None


@pytest.fixture
def set_flag():
    """Sets a flag of torch.backends by its dotted name, and puts everything back."""
    parts = ("", "cudnn.conv.", "cudnn.rnn.", "cuda.matmul.", "mkldnn.matmul.", "mkldnn.conv.")
    names = ("cudnn.allow_tf32", *(f"{part}fp32_precision" for part in parts))
    before = {name: attrgetter(name)(backends) for name in names}
    matmul = torch.get_float32_matmul_precision()

    def put(name, value):
        *path, last = name.split(".")
        setattr(attrgetter(".".join(path))(backends) if path else backends, last, value)

    yield put
    torch.set_float32_matmul_precision(matmul)
    for name, value in before.items():
        put(name, value)


@pytest.mark.skipif(not hasattr(backends.cuda.matmul, "fp32_precision"), reason="flags of PyTorch 2.9")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        (None, None),
        ("cudnn.allow_tf32", True),
        ("cudnn.allow_tf32", False),
        ("cuda.matmul.allow_tf32", True),
        ("set_float32_matmul_precision", "high"),
        ("set_float32_matmul_precision", "medium"),
        ("fp32_precision", "tf32"),
        ("fp32_precision", "ieee"),
        ("cuda.matmul.fp32_precision", "tf32"),
        ("cudnn.conv.fp32_precision", "ieee"),
        ("cudnn.conv.fp32_precision", "tf32"),
        ("mkldnn.matmul.fp32_precision", "bf16"),
    ],
)
def test_full_precision_whatever_the_caller_has_set(set_flag, name, value):
    if name == "set_float32_matmul_precision":
        torch.set_float32_matmul_precision(value)
    elif name is not None:
        set_flag(name, value)
    before = flags()
    watch = Watch()
    game = PatchGame(watch, IMAGES[0], 1, GRID, batch_size=4)
    game(some_coalitions())
    assert len(watch.flags) == 8  # one for the classes, four that look for what mixes images, three batches
    for seen in watch.flags:
        assert not seen["cuDNN"] or before["cuDNN"] is None
        assert [seen[part] for part in PARTS] == ["ieee"] * 4
        assert seen["products"] == "highest" or before["products"] is None
    assert flags() == before
    watch.limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        game(some_coalitions())
    assert flags() == before


@pytest.mark.parametrize(("amp", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_reduced_precision_is_used_and_close(amp, dtype):
    watch = Watch()
    game = PatchGame(watch, IMAGES[0], 1, GRID, "logit", batch_size=4, amp=amp)
    del watch.outputs[:]
    values_B = game(some_coalitions())
    assert {output.dtype for output in watch.outputs} == {dtype}
    full = PatchGame(network(), IMAGES[0], 1, GRID, "logit", batch_size=4)(some_coalitions())
    assert 0 < float((values_B - full).abs().max()) < 0.1 * float(full.abs().max())
    assert values_B.dtype == torch.float64


def test_reduced_precision_of_the_caller_does_not_leak_in():
    watch = Watch()
    with torch.autocast("cpu", torch.bfloat16):
        PatchGame(watch, IMAGES[0], 1, GRID, batch_size=4)(some_coalitions())
    assert {output.dtype for output in watch.outputs} == {torch.float32}


def test_channels_last_reaches_the_model_and_changes_no_value():
    watch = Watch()
    game = PatchGame(watch, IMAGES[0], 1, GRID, batch_size=4, speed="channels-last")
    game.network.batches.clear()
    values_B = game(some_coalitions())
    assert all(x_BCHW.is_contiguous(memory_format=torch.channels_last) for x_BCHW in game.network.batches)
    reference = PatchGame(network(), IMAGES[0], 1, GRID, batch_size=4)(some_coalitions())
    torch.testing.assert_close(values_B, reference, rtol=1e-5, atol=1e-6)


def test_a_compiled_model_sees_a_single_batch_shape(monkeypatch):
    compiled = Watch()
    monkeypatch.setattr(torch, "compile", lambda model, **options: compiled)
    game = PatchGame(network(), IMAGES, torch.tensor(TARGETS), GRID, batch_size=4, speed="compiled")
    values_B = game(some_coalitions(), torch.arange(11) % 3)
    assert compiled.sizes == [4, 4, 4]
    assert game.passes == 11
    eager = PatchGame(network(), IMAGES, torch.tensor(TARGETS), GRID, batch_size=4)
    torch.testing.assert_close(values_B, eager(some_coalitions(), torch.arange(11) % 3), rtol=1e-5, atol=1e-6)


def test_the_option_compile_compiles(monkeypatch):
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, **_: real(model, backend="eager")
    )  # graph capture, no C++ compiler
    game = PatchGame(network(), IMAGES[0], 1, GRID, batch_size=4, speed="compiled")
    assert isinstance(game.network, torch._dynamo.OptimizedModule)
    reference = PatchGame(network(), IMAGES[0], 1, GRID, batch_size=4)(some_coalitions())
    torch.testing.assert_close(game(some_coalitions()), reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", ["log_odds", "cosine"])
def test_float64_reference_agrees_with_float32(value):
    model = network()
    game = PatchGame(model, IMAGES, torch.tensor(TARGETS), GRID, value, "image_mean", batch_size=4)
    single = game(some_coalitions(), 2)
    double = game.double(network().double())
    exact = double(some_coalitions(), 2)
    torch.testing.assert_close(single, exact, rtol=1e-4, atol=1e-5)
    assert not torch.equal(single, exact)
    torch.testing.assert_close(single, game(some_coalitions(), 2))  # the game itself stays as it was
    assert (game.passes, double.passes) == (22, 11)


@pytest.mark.parametrize("value", ["log_odds", "cosine"])
def test_float64_reference_is_exact(value):
    model = network().double()
    game = PatchGame(network(), IMAGES, torch.tensor(TARGETS), GRID, value, batch_size=4, amp="bfloat16")
    z_BK = logits_by_hand(model, IMAGES.double(), some_coalitions(), [2] * 11)
    if value == "cosine":
        expected_B = z_BK @ z_BK[-1] / np.linalg.norm(z_BK, axis=1) / np.linalg.norm(z_BK[-1])
    else:
        expected_B = value_by_hand(value, z_BK, TARGETS[2])
    np.testing.assert_allclose(game.double(model)(some_coalitions(), 2), expected_B, rtol=1e-10, atol=1e-12)


# Bad input


class Poisoned(nn.Module):
    """Gives `bad` for every image that shows a pixel of 7."""

    def __init__(self, bad):
        super().__init__()
        self.bad, self.weight = bad, nn.Parameter(torch.zeros(()))

    def forward(self, x_BCHW):
        seven_B = (x_BCHW == 7).flatten(1).any(1)
        return torch.where(seven_B, self.bad, 0.0)[:, None] * torch.tensor([1.0, 0.0]) + self.weight


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_names_the_image(bad):
    images = torch.zeros(2, 3, 6, 6)
    images[1, 0, 0, 0] = 7  # in cell 0 of image 1
    game = PatchGame(Poisoned(bad), images, torch.tensor([0, 0]), GRID, "logit", batch_size=2, names=["a.png", "b.png"])
    shown, hidden = torch.ones(1, 9, dtype=torch.bool), torch.arange(9)[None] > 0
    assert bool((game(torch.cat([hidden, hidden]), torch.tensor([0, 1])) == 0).all())
    assert bool((game(torch.cat([shown, shown]), 0) == 0).all())
    with pytest.raises(NonFiniteValueError, match=r"(nan|inf) for b\.png \(1 of 4 coalitions\)"):
        game(torch.cat([shown, hidden, hidden, shown]), torch.tensor([0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "odds"}, "unknown value 'odds': choose one of log_odds, log_prob, logit, probability, cosine"),
        ({"baseline": "grey"}, "unknown baseline 'grey': choose one of mean, image_mean, black, blur, noise"),
        ({"amp": "tf32"}, "unknown precision 'tf32': choose one of bfloat16, float16, or none for float32"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(options, message):
    with pytest.raises(ValueError, match=message):
        PatchGame(network(), IMAGES[0], 1, GRID, **options)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (5, "targets between 5 and 5 for a model of 5 classes: give classes in 0 to 4"),
        (-1, "targets between -1 and -1"),
        (torch.tensor([1, 2]), "2 targets for 1 images: give one class for each"),
        (torch.tensor([], dtype=torch.long), "0 targets for 1 images"),
        (None, "the value 'log_odds' needs a target class for each image"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        PatchGame(network(), IMAGES[0], targets, GRID)


def test_an_image_smaller_than_the_grid_is_refused():
    with pytest.raises(ValueError, match="13×13 grid does not fit an image of 12×12 pixels"):
        PatchGame(network(), IMAGES[0], 1, PatchGrid(13), batch_size=4)(torch.ones(1, 169, dtype=torch.bool))


@pytest.mark.parametrize(
    ("coalitions", "found"),
    [
        (torch.ones(2, 2 * SIDE**2, dtype=torch.bool), "2×18 of bool"),
        (torch.ones(2, 4, dtype=torch.bool), "2×4 of bool"),
        (torch.ones(SIDE**2, dtype=torch.bool), "9 of bool"),
        (torch.ones(2, SIDE**2, dtype=torch.long), "2×9 of int64"),
    ],
)
def test_coalitions_of_other_players_are_refused(coalitions, found):
    game = PatchGame(network(), IMAGES, TARGETS, GRID)
    with pytest.raises(ValueError, match=f"rows of 9 booleans, one for each player, got {found}"):
        game(coalitions)


def test_no_coalitions_have_no_values():
    found = PatchGame(network(), IMAGES, TARGETS, GRID)(some_coalitions()[:0])
    assert found.shape == (0,) and found.dtype == torch.float64


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (0, 3, SIZE, SIZE)])
def test_what_are_no_images_is_refused(shape):
    with pytest.raises(ValueError, match="images are C×H×W, or I×C×H×W of at least one"):
        PatchGame(network(), torch.zeros(shape), 0, GRID)


def test_no_batch_holds_less_than_a_coalition():
    with pytest.raises(ValueError, match="batch_size is 0: give 1 or more"):
        PatchGame(network(), IMAGES, TARGETS, GRID, batch_size=0)
