"""Two processes over gloo against one process with the doubled batch."""

from dataclasses import replace

import pytest
import torch

from a2mim.dist import World, join
from a2mim.evaluate.accuracy import accuracy, pooled_features
from a2mim.gallery import Gallery
from tests.a2mim import child
from tests.a2mim.child import PLAIN
from tests.a2mim.tiny import LOOP, Classify, gap, log_of, same, state_of, tiny_images, tiny_method, tiny_run
from tests.children import exit_codes_of_two

pytestmark = pytest.mark.xdist_group("children")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The folder that two processes have worked in, and what each of them saw."""
    folder = tmp_path_factory.mktemp("pair")
    assert exit_codes_of_two(child.pair, folder) == (0, 0)
    return folder, [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_equal_one_with_the_doubled_batch(pair, tmp_path):
    _, ranks = pair
    alone, _ = tiny_run(tmp_path / "alone", Classify, net=PLAIN)
    assert gap(ranks[0]["plain"], alone.state_dict()) < 1e-6
    assert same(ranks[0]["plain"], ranks[1]["plain"])


def test_two_processes_draw_what_two_micro_batches_draw(pair, tmp_path):
    """Masks (here noise), dropout and batch statistics belong to slots, be they processes or micro-batches."""
    _, ranks = pair
    alone, result = tiny_run(tmp_path / "alone", loop=replace(LOOP, accumulate=2))
    trained = [name for name, _ in alone.named_parameters()]
    ours, theirs = ranks[0]["noisy"], alone.state_dict()
    assert gap({n: ours[n] for n in trained}, {n: theirs[n] for n in trained}) < 1e-6
    assert ranks[0]["result"]["processes"] == 2
    assert ranks[0]["result"]["last"]["loss"] == pytest.approx(result["last"]["loss"], rel=1e-5)


def test_two_processes_stop_together_and_go_on_to_the_same_bits(pair):
    folder, ranks = pair
    assert same(ranks[0]["resumed"], ranks[0]["noisy"])
    assert log_of(folder / "cut")[-1]["loss"] == pytest.approx(log_of(folder / "noisy")[-1]["loss"], rel=1e-12)


def test_an_optimizer_that_draws_draws_the_same_in_both(pair):
    _, ranks = pair
    assert same(ranks[0]["drawn"], ranks[1]["drawn"])


def test_a_bad_loss_on_one_process_stops_both(pair):
    folder, ranks = pair
    for rank in ranks:
        assert "NaN or infinite at step 6" in rank["sentence"]
    assert state_of(folder / "bad")["step"] == 6


def test_all_processes_evaluate_with_the_batch_statistics_of_the_first(pair):
    """Of the weights as of their moving average."""
    folder, ranks = pair
    assert ranks[0]["evaluated"] == ranks[1]["evaluated"]
    kept = [state_of(folder / f"ema-{ema}") for ema in (0.0, 0.5)]
    buffers = [name for name, _ in tiny_method().named_buffers()]
    own = [sum(float(each[name].sum()) for name in buffers) for each in (kept[0]["method"], kept[1]["ema"])]
    assert ranks[0]["evaluated"] == pytest.approx(own)


def test_evaluation_is_shared_out_without_loss_or_repetition(pair):
    _, ranks = pair
    gallery = Gallery(tiny_images(13), 16, (0.5,) * 3, (0.25,) * 3, batch=4)
    model = tiny_method(Classify).backbone
    alone = accuracy(model, gallery, World())
    features, target, index = pooled_features(model, gallery, World())
    for rank in ranks:
        assert rank["metrics"] == pytest.approx(alone) and alone["val_images"] == 13
        assert torch.equal(rank["index"], index) and torch.equal(rank["target"], target)
        torch.testing.assert_close(rank["features"], features)


def test_the_verbs_of_a_world(pair):
    _, ranks = pair
    for rank in ranks:
        assert rank["gathered"].tolist() == [0, 1]
        assert rank["largest"] == [1, 5]
        assert rank["total"].tolist() == [3]
        assert [each.tolist() for each in rank["sent"]] == [[[0.0, 0.0]] * 3, [3], [True]]
    alone = World()
    assert alone.main and alone.largest(3, 4) == [3, 4] and alone.total(torch.ones(2)).tolist() == [1, 1]


def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="no device called 'tpu9'"), join("tpu9"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="cuda:0 is not there"), join("cuda"):
            pass
