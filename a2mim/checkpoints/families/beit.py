"""BEiT's transformer (timm's Beit), which SimMIM and A²MIM use too, by its shapes."""

from a2mim.checkpoints.families.common import Architecture, Tensors, class_count, next_known, unusual
from a2mim.checkpoints.families.vit import VIT_USUAL, heads_of, name_sizes, vit_sizes
from a2mim.checkpoints.read import Checkpoint
from a2mim.checkpoints.resize import square_side


def is_beit(tensors: Tensors) -> bool:
    """What timm's plain ViT cannot hold."""
    marks = ("blocks.0.attn.relative_position_bias_table", "rel_pos_bias.relative_position_bias_table")
    tables = [tensors[key] for key in marks if key in tensors]
    sized = bool(tables) or "pos_embed" in tensors
    beit = bool(tables) or "blocks.0.attn.q_bias" in tensors
    usable = all(key in tensors for key in ("blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"))
    return beit and sized and usable and getattr(tensors.get("patch_embed.proj.weight"), "ndim", 0) == 4


def describe_beit(checkpoint: Checkpoint) -> Architecture:
    tensors = checkpoint.tensors
    sizes = vit_sizes(tensors)
    width, patch = sizes["embed_dim"], sizes["patch_size"]
    shared = tensors.get("rel_pos_bias.relative_position_bias_table")
    table = tensors.get("blocks.0.attn.relative_position_bias_table", shared)
    length = tensors["pos_embed"].shape[1] - 1 if table is None else 0
    side = square_side(length) if table is None else (square_side(table.shape[0] - 3) + 1) // 2
    pooled, head = "fc_norm.weight" in tensors, "head.weight" in tensors
    heads, assumed = heads_of(checkpoint, sizes) if table is None else (table.shape[1], {})
    wanted = {
        **sizes,
        "img_size": side * patch,
        "num_heads": heads,
        "qkv_bias": "blocks.0.attn.q_bias" in tensors,
        "init_values": 0.1 if "blocks.0.gamma_1" in tensors else None,
        "use_abs_pos_emb": "pos_embed" in tensors,
        "use_rel_pos_bias": table is not None and shared is None,
        "use_shared_rel_pos_bias": shared is not None,
        # Without a classifier nothing says how to pool; BEiT and SimMIM take the mean over the patches when they tune.
        "global_pool": "avg" if pooled or not head else "token",
        "use_fc_norm": False if not pooled and not head else None,
        "num_classes": class_count(tensors, "head.weight"),
    }
    size = "large" if width == 1024 else "base"
    name = next_known(f"beit_{size}_patch16_{side * patch}", f"beit_{size}_patch16_224")
    named = {**VIT_USUAL, **BEIT_USUAL, **name_sizes(name)}
    if "norm.1.weight" in tensors:
        name, named = "beit_two_norms_patch16_224", {**VIT_USUAL, **BEIT_USUAL, **name_sizes("beit_base_patch16_224")}
    form = ("qkv_bias", "init_values", "use_abs_pos_emb", "use_rel_pos_bias", "use_shared_rel_pos_bias")
    return Architecture("beit", name, unusual(wanted, named), (*form, "global_pool", "use_fc_norm"), assumed=assumed)


BEIT_USUAL = {
    "init_values": 0.1,
    "use_abs_pos_emb": False,
    "use_rel_pos_bias": True,
    "use_shared_rel_pos_bias": False,
    "global_pool": "avg",
    "use_fc_norm": None,
}
