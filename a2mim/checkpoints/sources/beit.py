"""BEiT's transformer, which SimMIM uses too.

BEiT's attention has a bias for queries and values and none for keys, and a table of relative positions, one for all
blocks in pre-training, one per block after fine-tuning; timm's `Beit` has all of it under the same names, so that
nothing has to be merged."""

from a2mim.checkpoints.convert import Source, Tensors, has
from a2mim.checkpoints.sources.common import (
    ANY,
    ATTENTION,
    ATTENTION_MASK,
    INDEX,
    LEAF,
    MASK_TOKEN,
    POSITION_INDEX,
    TABLE,
    TOKENS,
    VIT_EPS,
)

COMPUTED = {POSITION_INDEX: INDEX, ATTENTION_MASK: INDEX}


def is_beit(tensors: Tensors) -> bool:
    """A table of relative positions; or biases of queries and values, a layer scale and positions.

    Without any positions such a file is of a network with rotary ones (timm's DINOv3).
    """
    scaled = all(key in tensors for key in ("blocks.0.attn.q_bias", "blocks.0.gamma_1", "pos_embed"))
    return scaled or has(tensors, rf"{TABLE}|rel_pos_bias\.relative_position_bias_table")


CLASS_LAYERS = {rf"cls_pt_(layers|lm_head)\.{ANY}": "layers of BEiT v2's pre-training that read the class token"}

BEIT = Source(
    "beit",
    "github.com/microsoft/unilm, beit/modeling_pretrain.py and modeling_finetune.py",
    marks=(ATTENTION,),
    when=is_beit,
    drops={**COMPUTED, r"mask_token": MASK_TOKEN, rf"lm_head\.{LEAF}": TOKENS, **CLASS_LAYERS},
    norm_eps=VIT_EPS,
)
