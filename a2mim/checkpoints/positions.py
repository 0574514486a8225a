"""Fixed sin-cos position tables: MAE and MoCo v3 fill them in different orders, which tells whose a file is."""

import torch
from torch import Tensor

from a2mim.checkpoints.resize import square_side


def table_of(pos_embed_1LD: Tensor | None) -> str:
    """`mae` or `moco v3` where the positions are that method's fixed table, else empty.

    Both put the sines and cosines of the column and of the row at frequencies 10000^(-4i/D) side by side; MAE the
    column first (models_mae's util/pos_embed.py), MoCo v3 the row first (vits.py). Tables are recognised, never made.
    """
    if pos_embed_1LD is None or pos_embed_1LD.ndim != 3 or not pos_embed_1LD.is_floating_point():
        return ""
    if pos_embed_1LD.is_meta or pos_embed_1LD.layout != torch.strided:  # shapes alone, or sparse
        return ""
    if pos_embed_1LD.shape[0] != 1 or pos_embed_1LD.shape[2] == 0 or pos_embed_1LD.shape[2] % 4:
        return ""
    side = square_side(pos_embed_1LD.shape[1] - 1)
    if side < 2:
        return ""
    places_L1 = torch.arange(side * side, dtype=torch.float64)[:, None]
    quarter = pos_embed_1LD.shape[2] // 4
    frequency_Q = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    column, row = ((place * frequency_Q) for place in (places_L1 % side, places_L1 // side))
    halves = {"mae": (column, row), "moco v3": (row, column)}
    patches = pos_embed_1LD[0, 1:].double()
    for name, (first, second) in halves.items():
        table = torch.cat([first.sin(), first.cos(), second.sin(), second.cos()], dim=1)
        # Half precision keeps three digits.
        if torch.allclose(patches, table, rtol=0, atol=2e-3):
            return name
    return ""
