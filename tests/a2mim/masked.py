"""What the tests of MAE, MaskFeat and SparK share: tiny networks, images, and one run that is cut and resumed."""

import dataclasses

import numpy as np
import timm
import torch

from a2mim.settings import Loop
from tests.a2mim.tiny import log_of, same, state_of, tiny_run

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 0}
CNN = {"layers": (1, 1), "channels": (8, 16), "num_classes": 0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(size, batch=2, seed=0):
    return torch.randn(batch, 3, size, size, generator=seeded(seed))


def vit(name="vit_tiny_patch16_224", **arguments):
    """A seeded vision transformer of 4×4 patches of 8×8 px."""
    torch.manual_seed(0)
    return timm.create_model(name, **(VIT | arguments))


def cnn(name, **arguments):
    """A seeded CNN whose biases, scales and running statistics are not those that hide mistakes: 0 and 1."""
    torch.manual_seed(0)
    model = timm.create_model(name, **({"num_classes": 0} | arguments))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.rand_like(parameter) + 0.2)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand_like(buffer) + 0.2)
    return model


def patches(image_CHW, patch):
    """Patches of one image as rows of numbers: by loops, colours last."""
    x = image_CHW.detach().double().numpy()
    rows = []
    for top in range(0, x.shape[1], patch):
        for left in range(0, x.shape[2], patch):
            cells = [x[:, top + i, left + j] for i in range(patch) for j in range(patch)]
            rows.append(np.concatenate(cells))
    return np.array(rows)


def normalised_loss(prediction_BLD, image_BCHW, mask_BL, patch, normalise=True):
    """Mean over masked patches of the mean squared error to the (normalised) patch, one patch after another."""
    errors = []
    for predicted_LD, image, mask_L in zip(prediction_BLD, image_BCHW, mask_BL, strict=True):
        for predicted, true, masked in zip(predicted_LD, patches(image, patch), mask_L, strict=True):
            if normalise:
                true = (true - true.mean()) / np.sqrt(true.var(ddof=1) + 1e-6)
            errors += [np.mean((np.asarray(predicted) - true) ** 2)] if masked else []
    return float(np.mean(errors))


def resumed_and_whole(folder, method):
    """A run of `method()` that was stopped after each of its first steps, and one that was not, agree bit for bit."""

    def make(_):
        torch.manual_seed(0)
        return method()

    loop = Loop(batch=8, save_every=2, accumulate=2, pictures_every=1)
    for _ in range(3):
        tiny_run(folder / "cut", make, loop=dataclasses.replace(loop, minutes=1e-9))
    assert 0 < state_of(folder / "cut")["step"] < 12
    cut, result = tiny_run(folder / "cut", make, loop=loop)
    whole, _ = tiny_run(folder / "whole", make, loop=loop)
    assert result["finished"] and same(cut.state_dict(), whole.state_dict())
    assert [line for line in log_of(folder / "cut") if line["kind"] == "epoch"] == [
        line for line in log_of(folder / "whole") if line["kind"] == "epoch"
    ]
    return whole
