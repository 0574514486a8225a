"""SimCLR, BYOL, MoCo v3 and DINO beside trainings put together from the parts of lightly, another library: from the
same weights, on the same batches, with the same optimizer, the loss of every step is the same."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from tests.a2mim.siamese import POOLED, RESNET, batch_of, made

heads = pytest.importorskip("lightly.models.modules.heads", reason="lightly is not installed")
losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
update_momentum = pytest.importorskip("lightly.models.utils", reason="lightly is not installed").update_momentum

STEPS, LR, HIDDEN, OUT = 20, 0.002, 12, 8
MOMENTUM = 0.9
WIDTH = 16
NETWORKS = {"vit": POOLED, "resnet": RESNET}


def taken(head, ours):
    """lightly's head with our weights. What our head has none of (the bias of a last layer, scale and shift of a last
    batch norm) stays at 0 and 1."""
    theirs = [module for module in head.layers if not isinstance(module, torch.nn.ReLU | torch.nn.GELU)]
    layers = [module for module in ours if not isinstance(module, torch.nn.ReLU | torch.nn.GELU)]
    for to, of in zip(theirs, layers, strict=True):
        weights = dict(of.named_parameters())
        for name, parameter in to.named_parameters():
            if name in weights:
                parameter.data.copy_(weights[name].data)
            else:
                parameter.requires_grad_(False).fill_(1.0 if name == "weight" else 0.0)
    return head.double()


def embedding(backbone, image):
    return backbone.forward_head(backbone.forward_features(image), pre_logits=True)


def momentum_at(step):
    return 1 - (1 - MOMENTUM) * (math.cos(math.pi * step / STEPS) + 1) / 2


class SimCLR:
    def __init__(self, ours, width):
        self.backbone = copy.deepcopy(ours.backbone)
        head = heads.SimCLRProjectionHead(width, HIDDEN, OUT)
        self.projector = taken(head, ours.projector)
        self.loss = losses.NTXentLoss(temperature=ours.settings.temperature)
        self.trained = [self.backbone, self.projector]

    def step_loss(self, views):
        z = self.projector(embedding(self.backbone, torch.cat(views)))
        return self.loss(*z.chunk(2))

    def after(self, step):
        pass


class BYOL:
    later = 0
    """By how many steps the momentum is ahead of the step that was made."""

    def __init__(self, ours, width):
        self.backbone = copy.deepcopy(ours.backbone)
        self.projector = taken(heads.BYOLProjectionHead(width, HIDDEN, OUT), ours.projector)
        self.predictor = taken(heads.BYOLPredictionHead(OUT, HIDDEN, OUT), ours.predictor)
        self.followers = [(m, copy.deepcopy(m)) for m in (self.backbone, self.projector)]
        self.loss = losses.NegativeCosineSimilarity()
        self.trained = [self.backbone, self.projector, self.predictor]

    def step_loss(self, views):
        (_, backbone), (_, projector) = self.followers
        predicted = [self.predictor(self.projector(embedding(self.backbone, view))) for view in views]
        with torch.no_grad():
            target = [projector(embedding(backbone, view)) for view in views]
        return 4 + 2 * (self.loss(predicted[0], target[1]) + self.loss(predicted[1], target[0]))

    def after(self, step):
        for model, copied in self.followers:
            update_momentum(model, copied, momentum_at(step + self.later))


class MoCoV3(BYOL):
    """lightly has the heads; the loss is that of the paper's algorithm 1, which moves the copy as a step begins."""

    later = 1

    def __init__(self, ours, width):
        self.backbone = copy.deepcopy(ours.backbone)
        layers = sum(isinstance(module, torch.nn.Linear) for module in ours.projector)
        head = heads.MoCoProjectionHead(width, HIDDEN, OUT, num_layers=layers, batch_norm=True)
        self.projector = taken(head, ours.projector)
        with_norm = isinstance(ours.predictor[-1], torch.nn.BatchNorm1d)
        head = heads.MoCoProjectionHead(OUT, HIDDEN, OUT, batch_norm=True) if with_norm else None
        self.predictor = taken(head or heads.BYOLPredictionHead(OUT, HIDDEN, OUT), ours.predictor)
        self.followers = [(m, copy.deepcopy(m)) for m in (self.backbone, self.projector)]
        self.temperature = ours.temperature
        self.trained = [self.backbone, self.projector, self.predictor]

    def contrast(self, q, k):
        logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / self.temperature
        return 2 * self.temperature * F.cross_entropy(logits, torch.arange(len(q)))

    def step_loss(self, views):
        (_, backbone), (_, projector) = self.followers
        queries = [self.predictor(self.projector(embedding(self.backbone, view))) for view in views]
        with torch.no_grad():
            keys = [projector(embedding(backbone, view)) for view in views]
        return self.contrast(queries[0], keys[1]) + self.contrast(queries[1], keys[0])


class DINO:
    def __init__(self, ours, width):
        settings = ours.settings
        self.backbone = copy.deepcopy(ours.student)
        self.head, teacher_head = (self.made_head(ours.student_head, width, settings) for _ in range(2))
        self.followers = [(self.backbone, copy.deepcopy(ours.backbone)), (self.head, teacher_head)]
        self.loss = losses.DINOLoss(settings.prototypes, student_temp=settings.student_temperature).double()
        self.settings, self.at = settings, 0
        self.trained = [self.backbone, self.head]

    def made_head(self, ours, width, settings):
        widths = (width, settings.hidden, settings.bottleneck, settings.prototypes)
        head = heads.DINOProjectionHead(*widths, batch_norm=settings.batch_norm)
        head.last_layer.weight_v.data.copy_(ours.prototypes.weight.data)
        return taken(head, ours.mlp)

    def step_loss(self, views):
        s = self.settings
        risen = min(1.0, self.at / STEPS / s.temperature_warmup)
        temperature = s.warmup_temperature + risen * (s.teacher_temperature - s.warmup_temperature)
        (_, backbone), (_, head) = self.followers
        both, local = torch.cat(views[:2]), torch.cat(views[2:])
        with torch.no_grad():
            teacher = head(embedding(backbone, both)).chunk(2)
        student = self.head(torch.cat([embedding(self.backbone, part) for part in (both, local)])).chunk(len(views))
        return self.loss(list(teacher), list(student), teacher_temp=temperature)

    def after(self, step):
        self.at = step + 1
        for model, copied in self.followers:
            update_momentum(model, copied, momentum_at(step))


# Colder, and a few steps of so small a network on noise magnify the rounding of float32.
OWN = [
    ("simclr", {"temperature": 0.5}),
    ("byol", {}),
    ("mocov3", {"patch_embedding": "kept"}),
    ("dino", {"freeze_prototypes": 0.0}),
    ("dino", {"freeze_prototypes": 0.0, "batch_norm": True}),
]
THEIRS = {"simclr": SimCLR, "byol": BYOL, "mocov3": MoCoV3, "dino": DINO}


def trained(step_loss, parameters, after):
    """The losses of a training by plain gradient descent."""
    found = []
    for step in range(STEPS):
        loss = step_loss(step)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            torch._foreach_sub_(parameters, gradients, alpha=LR)
        after(step)
        found.append(loss.item())
    return found


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("name", "own"), OWN)
def test_every_step_of_a_training_costs_what_it_does_in_lightly(name, own, network):
    ours = made(name, NETWORKS[network], **own).double()
    theirs = THEIRS[name](ours, WIDTH)
    batches = [[view.double() for view in batch_of(ours, size=16, seed=step)["image"]] for step in range(STEPS)]
    weights = [p for p in ours.parameters() if p.requires_grad]
    generator = torch.Generator()
    mine = trained(
        lambda step: ours({"image": batches[step]}, generator)["loss"],
        weights,
        lambda step: ours.after_step(step / STEPS, (step + 1) / STEPS),
    )
    weights = [p for module in theirs.trained for p in module.parameters() if p.requires_grad]
    other = trained(lambda step: theirs.step_loss(batches[step]), weights, theirs.after)
    # ours computes losses in float32
    assert mine == pytest.approx(other, rel=2e-6)
    assert max(other) - min(other) > 1e-3 * abs(other[0])
