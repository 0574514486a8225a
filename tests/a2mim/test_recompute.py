"""--grad-checkpointing: the same loss and gradients from blocks that are computed twice, or a sentence."""

import pytest
import torch

from a2mim.methods import METHODS
from a2mim.seeds import seed_everything
from a2mim.settings import Augmentation, Loop
from a2mim.trainer import recompute
from tests.a2mim.families import make
from tests.a2mim.tiny import Classify, tiny_run

VIT, RESNET, CONVNEXT = "vit_tiny_patch16_224", "resnet18", "convnext_atto"
MASKED = {"image_size": 64, "mask_cell": 32}


def make_method(method, network, settings, **arguments):
    kind = METHODS[method]
    return kind(make(network, **arguments)[0], kind.Settings(**settings)).train()


def one_step(made):
    """Loss and gradients of a batch, and how many modules of the backbone that is trained ran."""
    runs = []
    for module in getattr(made, made.trained).modules():
        module.register_forward_hook(lambda *_: runs.append(1))
    image = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    views = len(made.views(Augmentation(image_size=64)))
    batch = {"image": image if views == 1 else [image, image.flip(3)], "target": torch.tensor([0, 1, 2, 3])}
    seed_everything(0, "step")
    loss = made(batch, torch.Generator().manual_seed(2))["loss"]
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in made.named_parameters() if p.grad is not None}, len(runs)


@pytest.mark.parametrize(
    ("method", "network", "settings", "arguments"),
    [
        ("supervised", VIT, {}, {"num_classes": 4, "drop_path_rate": 0.5}),
        ("supervised", RESNET, {}, {"num_classes": 4}),
        ("simclr", RESNET, {"hidden": 16, "embedding": 8}, {}),
        ("mocov3", VIT, {"hidden": 16, "embedding": 8}, {}),
        ("dino", VIT, {"hidden": 16, "bottleneck": 8, "prototypes": 16, "local_crops": 0}, {}),
        ("mae", VIT, {"image_size": 64, "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}, {}),
        ("maskfeat", VIT, {"image_size": 64}, {}),
        ("a2mim", VIT, MASKED, {}),
        ("a2mim", "swin_tiny_patch4_window7_224", {**MASKED, "mask_at": 0}, {}),
        ("simmim", "beit_base_patch16_224", MASKED, {"drop_path_rate": 0.5}),
        ("a2mim", CONVNEXT, {**MASKED, "mask_at": 0, "gamma_init": 0.1}, {}),
    ],
)
def test_the_same_loss_and_gradients(method, network, settings, arguments):
    plain, again = (make_method(method, network, settings, **arguments) for _ in range(2))
    recompute(again)
    (loss, grads, runs), (loss_again, grads_again, runs_again) = one_step(plain), one_step(again)
    assert torch.equal(loss, loss_again) and grads.keys() == grads_again.keys()
    for name, gradient in grads.items():
        torch.testing.assert_close(grads_again[name], gradient, rtol=1e-5, atol=1e-7)
    assert runs_again > 1.2 * runs  # else nothing was computed again


@pytest.mark.parametrize(
    ("method", "network", "settings"),
    [
        ("a2mim", RESNET, {**MASKED, "mask_at": 0}),  # timm computes the blocks of layer1 again, not layer1
        ("a2mim", CONVNEXT, MASKED),
        ("a2mim", VIT, {**MASKED, "mask_at": 2}),
        ("spark", RESNET, {"image_size": 64}),
    ],
)
def test_a_method_that_acts_inside_of_the_blocks_is_refused(method, network, settings):
    with pytest.raises(ValueError, match=r"acts inside of .*, whose blocks would be computed again without it: drop"):
        recompute(make_method(method, network, settings))


def test_a_backbone_that_cannot_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="Net cannot compute its blocks again: drop --grad-checkpointing"):
        tiny_run(tmp_path, Classify, loop=Loop(batch=8, grad_checkpointing=True))
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    with pytest.raises(ValueError, match="VGG cannot compute its blocks again"):
        recompute(make_method("supervised", "vgg11", {}, num_classes=4))
