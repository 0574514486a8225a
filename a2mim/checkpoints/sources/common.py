"""What several sources share: reasons for leaving keys out, and steps of a conversion."""

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from a2mim.checkpoints.convert import Pixels, Tensors, substitute
from a2mim.checkpoints.joined import Joined, joins

DECODER = "decoder of the pre-training"
MASK_TOKEN = "mask token: shown in place of masked patches, in pre-training alone"
PROJECTOR = "projector or predictor of the contrastive loss"
INDEX = "index or mask that the model computes itself"
POSITION_INDEX = r"(.*\.)?relative_position_index"
ATTENTION_MASK = r"(.*\.)?attn_mask"

TOKENS = "predictor of visual tokens"
OTHER_COPY = "another copy of the network: the file's name with #{} behind it takes that one"

VIT_EPS = {"": 1e-6}
IMAGENET: Pixels = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
HALF: Pixels = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OF_CLIP: Pixels = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)

LEAF = r"(weight|bias)"
NORM_LEAF = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
ANY = r"(\w+\.)*\w+"
ATTENTION = r"blocks\.0\.attn\.qkv\.weight"
TABLE = r"blocks\.0\.attn\.relative_position_bias_table"


def stack_qkv(tensors: Tensors, parts: dict[str, tuple[str, str, str]]) -> Tensors:
    """Join the query, key and value of each attention into timm's one matrix or bias.

    parts: timm's name → the names of the three. Unless all three are there with one shape and kind of number, they keep
    their names, and so show up as unexpected. Their values are read where they are asked for.
    """
    made = dict(tensors)
    for name, three in parts.items():
        found = [tensors[key] for key in three if key in tensors]
        if len(found) == 3 and joins(found) and name not in tensors:
            made[name] = Joined(found)
            for key in three:
                del made[key]
    return made


def layer_scale(tensors: Tensors) -> Tensors:
    """BEiT's names of the layer scale → those of timm's plain ViT (timm's own Beit keeps gamma_1 and gamma_2)."""
    return substitute(tensors, {r"(blocks\.\d+)\.gamma_([12])": r"\1.ls\2.gamma"})


def fold_batch_norm(tensors: Tensors, norm: str, linear: str, eps: float, into: str) -> Tensors:
    """A classifier behind a batch norm without affine (MAE's linear probe) as one linear layer.

    W (x - mean) / sqrt(var + eps) + b = W' x + b' with W' = W / sqrt(var + eps), b' = b - W' mean.
    """
    names = [f"{norm}.running_mean", f"{norm}.running_var", f"{linear}.weight", f"{linear}.bias"]
    if any(name not in tensors for name in names):
        return tensors
    mean_D, var_D, weight_KD, bias_K = (tensors[name] for name in names)
    if weight_KD.ndim != 2 or mean_D.shape != var_D.shape or mean_D.shape != weight_KD.shape[1:]:
        return tensors
    folded_KD = weight_KD.double() / (var_D.double() + eps).sqrt()
    bias = bias_K.double() - folded_KD @ mean_D.double()
    kept = {key: x for key, x in tensors.items() if key not in (*names, f"{norm}.num_batches_tracked")}
    return kept | {f"{into}.weight": folded_KD.to(weight_KD.dtype), f"{into}.bias": bias.to(bias_K.dtype)}


def one_head(tensors: Tensors) -> Tensors:
    """A distillation token beside a single classifier, which reads the class token: timm's ViT calls it a register."""
    if "head.weight" not in tensors or "head_dist.weight" in tensors:
        return tensors
    return substitute(tensors, {"dist_token": "reg_token"})
