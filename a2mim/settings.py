"""What a training run is asked to do, as frozen dataclasses. Imports nothing heavy: `--help` reads this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from a2mim.bounds import HIDDEN, Count, Decay, Natural, NotNegative, Pixels, Positive, Range, Rate, Share, option

Precision = Literal["float32", "bf16", "fp16"]
Area = Annotated[float, Range(0, 1, above=True)]
"""A part of an image that is not nothing."""


def since(default: Any, before: Any) -> Any:
    """A setting whose default is not what the program did before there was one: runs from then go on with `before`."""
    return field(default=default, metadata={"before": before})


@dataclass(frozen=True)
class Network:
    """A timm model and where its weights come from."""

    model: str = ""
    """timm's name of the network, such as resnet50 (left out: what the weights' file is of)."""
    model_args: tuple[str, ...] = ()
    """Further arguments of timm.create_model, name=value, such as drop_path_rate=0.1."""
    weights: str = "random"
    """random, pretrained, the folder of a finished run, or a checkpoint file (`FILE#student` for one of its copies)."""
    partial: bool = False
    """Load what fits of a checkpoint that does not fit whole; run.json says what did not."""


@dataclass(frozen=True)
class Data:
    """Where the images come from: a folder, a .tar, or any data set that timm and torchvision read."""

    data: str = ""
    """A folder (labelled by its sub-folders, or just images), a .tar, or timm's name of a data set, such as
    torch/cifar10 or hfds/uoft-cs/cifar10."""
    data_root: str = ""
    """Where a data set that timm names is kept."""
    split: str = "train"
    """The part that trains, where a folder or tar is divided into parts such as train and val; `.` is all of it."""
    val: str = ""
    """The validation images: a folder, .tar or name (empty: the same place as the training images)."""
    val_split: str = "validation"
    """The part that validates, in the same way."""
    limit: Natural = 0
    """Use only this many training images, drawn once with a fixed seed (0: all)."""
    stream_length: Natural = 0
    """Images per epoch of a streamed data set (wds/, hfids/, tfds/), where it does not say so itself."""
    in_memory: bool = False
    """Decode the training images once, the middle square of each at the size of the training, and keep them on the
    device: for small images; crop and flip only, resized bilinearly."""
    workers: Natural = 4
    """Processes that decode images (0: none). Results do not depend on it, except for streamed data sets."""


@dataclass(frozen=True)
class Augmentation:
    """How one view of a training image is made. The defaults are those of masked image modelling; methods that compare
    views have their papers' (simclr, byol, mocov3 and dino; run.json lists them, `views`), and what is typed wins."""

    image_size: Pixels = 224
    """Side of the square that the model sees, in pixels."""
    crop: Literal["resized", "padded", "centre"] = "resized"
    """resized: random resized crop; padded: the middle square of the image at this size, padded, and a random crop of
    it; centre: the middle square of the image, all of its shorter side (evaluation may cut a margin from it, by the
    network's crop_pct), which nothing else is done to, no flip either."""
    scale: tuple[Area, Area] = (0.67, 1.0)
    """Range of a resized crop's share of the image area (simclr, byol, mocov3: 0.08 to 1; dino: 0.4 to 1, and local
    crops by --set local_scale)."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Range of a resized crop's aspect ratio."""
    padding: Annotated[int, Range(0, 65536)] = 4
    """Pixels added on each side before a padded crop."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    color_jitter: NotNegative = 0.0
    """Strength of the change of brightness, contrast and saturation; auto_augment takes its place, as in timm
    (simclr: 0.8 by --set strength; byol, mocov3, dino: 0.4)."""
    saturation: NotNegative | None = None
    """Strength of the change of saturation, where it is not that of color_jitter (byol, mocov3, dino: 0.2); none beside
    auto_augment, nor of hue."""
    hue: Annotated[float, Range(0, 0.5)] = 0.0
    """Strength of the change of hue, at most 0.5 (simclr: 0.2 by --set strength; byol, mocov3, dino: 0.1)."""
    color_jitter_prob: Share = 1.0
    """Probability of the colour jitter (simclr, byol, mocov3, dino: 0.8)."""
    grayscale: Share = 0.0
    """Probability of dropping the colours (simclr, byol, mocov3, dino: 0.2)."""
    blur: Share = 0.0
    """Probability of a Gaussian blur (σ up to 2 px, kernel a tenth of the side; simclr: 0.5; byol, mocov3: 1 and 0.1;
    dino: 1, 0.1 and 0.5; of each view by --set blur, of all alike by this)."""
    solarize: Share = 0.0
    """Probability of inverting the brighter half of the values (byol, mocov3, dino: 0.2 in the second view)."""
    auto_augment: str = ""
    """timm's policy string, such as rand-m9-mstd0.5-inc1."""
    erasing: Share = 0.0
    """Probability of random erasing (noise pixels)."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest", "random"] = "bicubic"
    """How a crop is resized: bilinear, bicubic or random (mocov3: bilinear)."""
    repeats: Count = 1
    """Repeated augmentation: copies of an image in an epoch, which then holds that many times fewer images."""
    typed: Annotated[tuple[str, ...], HIDDEN] = ()
    """Names of settings that hold for a method's own views, too, although they are the usual ones."""

    def check(self) -> None:
        """Raises ValueError for a range that begins behind its end, and for what a centre crop does not do."""
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"--{name} {low:g} {high:g} ends before it begins: give the smaller number first")
        if self.crop == "centre" and (more := self.besides_cropping()):
            names = ", ".join(map(option, more))
            raise ValueError(
                f"--crop centre shows the middle square of an image as it is, without {names}: turn them off, or use "
                "another --crop"
            )

    def besides_cropping(self) -> list[str]:
        """Names of the augmentations that are asked for besides a crop and a flip."""
        names = ("color_jitter", "saturation", "hue", "grayscale", "blur", "solarize", "auto_augment", "erasing")
        return [name for name in names if getattr(self, name)]


OWN_VIEWS = ("scale", "color_jitter", "hue", "color_jitter_prob", "grayscale", "blur", "solarize", "interpolation")
"""Of Augmentation what the papers of methods that compare views state otherwise than it does."""


@dataclass(frozen=True)
class Mixing:
    """Mixup, CutMix and label smoothing, by timm; they need labels."""

    mixup: NotNegative = 0.0
    """Mixup's alpha (0: off)."""
    cutmix: NotNegative = 0.0
    """CutMix's alpha (0: off)."""
    mix_prob: Share = 1.0
    """Probability of mixing a batch."""
    switch_prob: Share = 0.5
    """Probability of CutMix where both are on."""
    smoothing: Decay = 0.0
    """Label smoothing."""


@dataclass(frozen=True)
class Evaluation:
    """How an image is shown to the model when it is evaluated."""

    eval_size: Natural = 0
    """Side in pixels (0: the training size)."""
    crop_pct: Area = 0.875
    """Share of the resized image's side that the centre crop keeps."""
    eval_batch: Count = 256
    """Images per forward pass and process."""


@dataclass(frozen=True)
class Optim:
    """Optimizer and schedule. The learning rate is stated for one batch size and scaled to the run's global batch."""

    epochs: Count = 100
    """Passes over the training images."""
    optimizer: str = "adamw"
    """Any of timm's: adamw, lamb, sgd (with Nesterov momentum), momentum (without), lars ... Muon takes matrices and
    leaves vectors, and what the model exempts from weight decay, to AdamW."""
    lr: Rate = 1e-3
    """Peak learning rate at a global batch of lr_batch images."""
    lr_batch: Count = 2048
    """The global batch that `lr` is stated for."""
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"
    """How the learning rate follows the global batch: lr * batch / lr_batch, its square root, or not at all."""
    weight_decay: Rate = 0.05
    """Weight decay; none on vectors (norms, biases) and on what the model or method exempts."""
    decay_also: tuple[str, ...] = ()
    """Parameters that decay although they are vectors or exempt, by a part of their names, such as gamma_C (A²MIM's
    mask γ) or relative_position_bias_table."""
    weight_decay_end: Rate | None = None
    """Reached along a cosine at the end of training (DINO); default: constant."""
    betas: tuple[Decay, Decay] | None = None
    """Adam's betas (default: the optimizer's own)."""
    eps: Positive | None = None
    """The optimizer's epsilon (default: its own)."""
    momentum: Decay = 0.9
    """For optimizers that have one: 0.9 for every one of them unless given (Muon's own is 0.95)."""
    layer_decay: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Learning-rate factor per layer from the head, or the decoder in its place, down to the stem (1: off)."""
    backbone_rate: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Learning-rate factor of the whole backbone but its classifier: 0.1 for weights that a new decoder or classifier
    is trained beside."""
    clip_grad: NotNegative = 0.0
    """Largest norm of the whole gradient (0: off; LAMB then keeps the limit of its own, 1, which this replaces)."""
    schedule: Literal["cosine", "multistep", "constant", "poly"] = "cosine"
    """A cosine to min_lr, decay_rate at each milestone, constant, or a power of what is left of the training to min_lr;
    with a warm-up before it."""
    cosine_from: Literal["warmup", "start"] = since("warmup", before="start")
    """Where the cosine (or poly) begins: at the end of the warm-up (MAE, MoCo v3, DINO and most others), or at the
    first step (timm's rule, as in RSB and DeiT: the rate falls by a step when the warm-up ends)."""
    warmup_epochs: NotNegative = 10.0
    """Epochs of linear warm-up, counted within `epochs`."""
    warmup_to: Literal["peak", "schedule"] = "peak"
    """What the warm-up rises to: the peak learning rate, or what the schedule gives at that very step (OpenMixup), so
    that it always meets the schedule."""
    warmup_lr: Rate = 0.0
    """Learning rate at the first step of the warm-up."""
    min_lr: Rate = 0.0
    """Learning rate at the end of the cosine, or of poly."""
    min_lr_scaled: bool = True
    """Whether the factors on the learning rates of parameters (layer_decay, backbone_rate, a method's own) hold for
    min_lr, too (MAE, SparK, timm and most others); off, every parameter's rate ends at min_lr itself (OpenMixup)."""
    power: Positive = 1.0
    """Of poly: 1 is a straight line."""
    milestones: tuple[NotNegative, ...] = ()
    """Epochs at which multistep decays."""
    decay_rate: Share = 0.1
    """What multistep multiplies by at a milestone."""

    def check(self) -> None:
        """Raises ValueError for a weight decay that would have to rise from nothing."""
        if self.weight_decay_end and not self.weight_decay:
            raise ValueError(
                f"--weight-decay 0 cannot rise to --weight-decay-end {self.weight_decay_end:g}: begin with a small "
                "one, such as 1e-6, or end at 0 as well"
            )


@dataclass(frozen=True)
class Loop:
    """The training loop itself."""

    batch: Count = 2048
    """Images per optimizer step, over all processes and accumulated micro-batches together."""
    accumulate: Count = 1
    """Micro-batches per step: the same result from less memory, but for batch statistics and what compares or averages
    the images of a batch (contrastive methods, A²MIM's fourier=released), all of one micro-batch, and for losses that
    are means over pixels, patches or regions of which images have unlike numbers (segmentation, MaskFeat, the masks of
    detection), where each micro-batch has the same weight."""
    precision: Precision = "float32"
    """float32 (TF32 in CUDA's matrix products), or autocast to bf16 or fp16 (with gradient scaling); a detector's heads
    stay in float32."""
    channels_last: Literal["auto"] | bool = "auto"
    """Channels-last memory format, in which most convolutions are faster: auto times both on a few steps before a
    training of 200 steps and more, and run.json says which it took; a shorter one, and --compile, go without."""
    compile: bool = False
    """torch.compile the method."""
    grad_checkpointing: bool = False
    """Keep no activations inside of the backbone's blocks and compute them again in the backward pass: less memory for
    about a third more time. (Batch normalisation then counts each batch twice in its running statistics.)"""
    sync_bn: bool = False
    """Batch statistics over all processes (CUDA)."""
    ema: Decay = 0.0
    """Decay of the moving average of the weights (0: off); where on, the average is what is evaluated and exported."""
    ema_warmup: bool = False
    """Let the decay grow towards `ema` in the first steps."""
    ema_warmup_epochs: NotNegative = 0.0
    """Epochs in which the decay rises along a line, from 0.9 of `ema` to it (OpenMixup: 20)."""
    seed: Natural = 0
    """Of everything: initial weights, order, augmentation, masks, dropout."""
    deterministic: bool = False
    """Ask torch for deterministic CUDA kernels (slower; the CPU needs none of it)."""
    log_every: Count = 50
    """Steps between lines of log.jsonl."""
    save_every: Natural = 0
    """Steps between saved states (0: once an epoch)."""
    keep: Count = 2
    """Saved states to keep, besides the best."""
    keep_states: Natural = 0
    """Keep the weights before the first step and after each of so many equal parts of the training, in the run's
    folder course, for `a2mim profile RUN --checkpoints all` (0: none)."""
    evaluate_every: Count = 1
    """Epochs between evaluations."""
    pictures_every: Natural = 0
    """Epochs between reconstruction pictures (0: none)."""
    minutes: NotNegative = 0.0
    """Save and stop after this long (0: never); the same command goes on."""
    anyway: bool = False
    """Go on with another number of processes than saved the run, or of those that read a stream; the result then
    differs in its last bits at least."""

    @property
    def laid_out(self) -> bool:
        """Whether it trains in channels-last format; no where that is still to be found."""
        return self.channels_last is True

    def together(self, processes: int) -> int:
        """Images over which batch statistics are taken, and which a method can compare: of one micro-batch, and with
        `sync_bn` of that of every process."""
        return self.batch // (self.accumulate * (1 if self.sync_bn else processes))

    def check(self) -> None:
        """Raises ValueError for two rules of one decay."""
        if self.ema_warmup and self.ema_warmup_epochs:
            raise ValueError("--ema-warmup and --ema-warmup-epochs are two rules for one decay: give one of them")


# What may differ when a run goes on: none of it changes a weight.
FREE = (
    "data.workers",
    "loop.log_every",
    "loop.save_every",
    "loop.keep",
    "loop.pictures_every",
    "loop.minutes",
    "loop.anyway",
)
