"""Networks under the names, and with the forward passes, of other projects' public code: the oracles of the reader.

Each is written from its project's layout, with plain tensor operations (attention as softmax(q kᵀ/√d) v, windows cut
out one by one), and shares nothing with timm or with the reader.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


def randomise(net, seed=0):
    """Random weights and statistics in float64. Embeddings are tiny, so that the first norm depends on its epsilon."""
    generator = torch.Generator().manual_seed(seed)

    def noise(x):
        return torch.randn(x.shape, generator=generator, dtype=torch.float64)

    net.double().eval()
    for name, x in [*net.named_parameters(), *net.named_buffers()]:
        if not x.is_floating_point():
            continue
        if name.endswith("running_var"):
            x.data = 0.5 + noise(x) ** 2
        elif name.endswith("running_mean"):
            x.data = 0.3 * noise(x)
        elif (
            any(word in name for word in ("patch_embed", "conv_proj", "cls_token", "pos", "token"))
            and "table" not in name
        ):
            x.data = 1e-3 * noise(x)
        elif x.ndim < 2:
            x.data = (0.0 if name.endswith("bias") else 1.0) + 0.3 * noise(x)
        else:
            x.data = 1.5 * noise(x) / math.sqrt(x[0].numel())
    return net


def attend(q_BLD, k_BLD, v_BLD, heads, bias=0.0):
    """softmax(q kᵀ/√d + bias) v, by head. bias: (heads, L, L)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q_BLD, k_BLD, v_BLD))
    scores = torch.einsum("bhld,bhmd->bhlm", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bhlm,bhmd->bhld", (scores + bias).softmax(-1), v).transpose(1, 2).flatten(2)


class Named(nn.Module):
    """A module with children and parameters as they are given."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)


def vector(*shape):
    return nn.Parameter(torch.zeros(*shape))


def mlp(dim, ratio=4):
    return Named(fc1=nn.Linear(dim, ratio * dim), fc2=nn.Linear(ratio * dim, dim))


def run_mlp(fc1, fc2, x):
    return fc2(F.gelu(fc1(x)))


def patches(x_BDHW):
    return x_BDHW.flatten(2).transpose(1, 2)


def masked(x_BLD, mask_BL, token_D, gamma_D=None, replace=False):
    """Tokens whose masked ones are replaced by the mask token, or get it added (and are scaled by gamma before)."""
    m = mask_BL[..., None]
    if replace:
        return x_BLD * (1 - m) + token_D * m
    if gamma_D is not None:
        x_BLD = x_BLD * (1 - m) + x_BLD * gamma_D * m
    return x_BLD + token_D * m


def mean_filled(images, mask_BHW):
    """Masked pixels in the mean colour of the whole image."""
    m = mask_BHW[:, None]
    return images * (1 - m) + images.mean((2, 3), keepdim=True) * m


def at_pixels(mask_BLL, cell):
    """Cells → pixels, or a finer grid: a square of `cell`² for each."""
    return mask_BLL.repeat_interleave(cell, 1).repeat_interleave(cell, 2)


def shuffled(convolution, x_BCHW, stride):
    """1×1 convolution to stride²·3 channels, of which each pixel of a cell takes three."""
    y = convolution(x_BCHW)
    out = torch.zeros(len(y), 3, y.shape[2] * stride, y.shape[3] * stride, dtype=y.dtype)
    for colour in range(3):
        for row in range(stride):
            for column in range(stride):
                out[:, colour, row::stride, column::stride] = y[:, (colour * stride + row) * stride + column]
    return out


def tokens_to_map(x_BLD):
    side = math.isqrt(x_BLD.shape[1])
    return x_BLD.transpose(1, 2).unflatten(2, (side, side))


# --- MAE, MoCo v3, DINO, iBOT, DeiT: timm's names as of 2021


def run_blocks(blocks, x, heads):
    for block in blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, -1)
        x = x + getattr(block, "gamma_1", 1.0) * block.attn.proj(attend(q, k, v, heads))
        x = x + getattr(block, "gamma_2", 1.0) * run_mlp(block.mlp.fc1, block.mlp.fc2, block.norm2(x))
    return x


class ViT(nn.Module):
    """cls_token, pos_embed, patch_embed.proj, blocks.N.{norm1, attn.qkv, attn.proj, norm2, mlp.fc1, mlp.fc2}."""

    def __init__(
        self,
        dim=128,
        heads=2,
        depth=2,
        image=32,
        patch=8,
        eps=1e-6,
        gamma=False,
        mean=False,
        head=None,
        dist=False,
        bare=False,
    ):
        super().__init__()
        self.heads, self.mean, self.bare = heads, mean, bare
        length = (image // patch) ** 2 + (0 if bare else 1 + dist)
        self.cls_token = vector(1, 1, dim)
        self.pos_embed = vector(1, length, dim)
        if dist:
            self.dist_token = vector(1, 1, dim)
        self.patch_embed = Named(proj=nn.Conv2d(3, dim, patch, patch))
        self.blocks = nn.ModuleList([self.block(dim, eps, gamma) for _ in range(depth)])
        if mean:
            self.fc_norm = nn.LayerNorm(dim, eps=eps)
        else:
            self.norm = nn.LayerNorm(dim, eps=eps)
        if head is not None:
            self.head = head
        if dist:
            self.head_dist = nn.Linear(dim, head.out_features)

    def block(self, dim, eps, gamma):
        attn = Named(qkv=nn.Linear(dim, 3 * dim), proj=nn.Linear(dim, dim))
        norms = {"norm1": nn.LayerNorm(dim, eps=eps), "norm2": nn.LayerNorm(dim, eps=eps)}
        scales = {"gamma_1": vector(dim), "gamma_2": vector(dim)} if gamma else {}
        return Named(**norms, attn=attn, mlp=mlp(dim), **scales)

    def tokens(self, images):
        x = patches(self.patch_embed.proj(images))
        first = [self.cls_token] + ([self.dist_token] if hasattr(self, "dist_token") else [])
        first = [token.expand(len(x), -1, -1) for token in first]
        x = torch.cat([*first, x + self.pos_embed], 1) if self.bare else torch.cat([*first, x], 1) + self.pos_embed
        x = run_blocks(self.blocks, x, self.heads)
        return x if self.mean else self.norm(x)

    def features(self, images):
        x = self.tokens(images)
        return self.fc_norm(x[:, 1:].mean(1)) if self.mean else x[:, 0]

    def forward(self, images):
        if hasattr(self, "dist_token"):
            x = self.tokens(images)
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        x = self.features(images)
        return self.head(x) if hasattr(self, "head") else x


class MAE(ViT):
    """models_mae.py: the encoder, and a decoder under decoder_*."""

    def __init__(self, dim=128, decoder=64):
        super().__init__(dim)
        self.decoder_embed = nn.Linear(dim, decoder)
        self.mask_token = vector(1, 1, decoder)
        self.decoder_pos_embed = vector(1, 17, decoder)
        self.decoder_blocks = nn.ModuleList([self.block(decoder, 1e-6, False) for _ in range(2)])
        self.decoder_norm = nn.LayerNorm(decoder, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder, 8 * 8 * 3)

    def reconstruct(self, images, mask_BL):
        """The predicted patches (B, 16, 192) of images whose patches with 1 in the mask are left out."""
        rows = []
        for image, mask_L in zip(images, mask_BL, strict=True):
            keep = [k for k in range(len(mask_L)) if not mask_L[k]]
            x = patches(self.patch_embed.proj(image[None])) + self.pos_embed[:, 1:]
            x = torch.cat([self.cls_token + self.pos_embed[:, :1], x[:, keep]], 1)
            x = self.decoder_embed(self.norm(run_blocks(self.blocks, x, self.heads)))
            full = [self.mask_token[0, 0]] * len(mask_L)
            for place, k in enumerate(keep):
                full[k] = x[0, 1 + place]
            y = torch.stack([x[0, 0], *full])[None] + self.decoder_pos_embed
            y = self.decoder_norm(run_blocks(self.decoder_blocks, y, y.shape[-1] // 32))
            rows.append(self.decoder_pred(y)[0, 1:])
        return torch.stack(rows)


def moco_mlp(layers, wide, inside, out):
    """moco/builder.py, _build_mlp."""
    parts = []
    for n in range(layers):
        last = n == layers - 1
        parts.append(nn.Linear(wide if n == 0 else inside, out if last else inside, bias=False))
        parts += [nn.BatchNorm1d(out, affine=False)] if last else [nn.BatchNorm1d(inside), nn.ReLU()]
    return nn.Sequential(*parts)


class DINOHead(nn.Module):
    """dino/vision_transformer.py: an MLP, and a last layer with weight norm."""

    def __init__(self, dim, out=7):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dim, 16), nn.GELU(), nn.Linear(16, 8))
        self.last_layer = Named(weight_g=vector(out, 1), weight_v=vector(out, 8))


# --- BEiT and SimMIM


def relative_index(side, cls=True):
    """Index of the relative position of every two tokens in a table of (2·side - 1)² (+ 3 for the class token)."""
    places = [(row, column) for row in range(side) for column in range(side)]
    span = 2 * side - 1
    inner = torch.tensor([[(r - s + side - 1) * span + (c - d + side - 1) for s, d in places] for r, c in places])
    if not cls:
        return inner
    index = torch.zeros(side * side + 1, side * side + 1, dtype=torch.long)
    index[1:, 1:] = inner
    index[0, :], index[:, 0], index[0, 0] = span * span, span * span + 1, span * span + 2
    return index


class Table(nn.Module):
    def __init__(self, side, heads):
        super().__init__()
        self.relative_position_bias_table = vector((2 * side - 1) ** 2 + 3, heads)
        self.register_buffer("relative_position_index", relative_index(side))

    def bias(self):
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class BeitAttention(Table):
    def __init__(self, dim, heads, side, own_table):
        super().__init__(side, heads)
        if not own_table:
            del self.relative_position_bias_table, self.relative_position_index
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = vector(dim), vector(dim)
        self.proj = nn.Linear(dim, dim)


class Beit(nn.Module):
    """BEiT's transformer; SimMIM's in pre-training shares the table and has no absolute positions."""

    def __init__(self, shared=False, mean=True, positions=False, classes=5, dim=32, heads=4, depth=2, side=4):
        super().__init__()
        self.heads, self.mean, self.shared = heads, mean, shared
        self.cls_token = vector(1, 1, dim)
        self.patch_embed = Named(proj=nn.Conv2d(3, dim, 8, 8))
        if positions:
            self.pos_embed = vector(1, side * side + 1, dim)
        if shared:
            self.rel_pos_bias = Table(side, heads)
        self.blocks = nn.ModuleList(
            [
                Named(
                    norm1=nn.LayerNorm(dim, eps=1e-6),
                    attn=BeitAttention(dim, heads, side, not shared),
                    norm2=nn.LayerNorm(dim, eps=1e-6),
                    mlp=mlp(dim),
                    gamma_1=vector(dim),
                    gamma_2=vector(dim),
                )
                for _ in range(depth)
            ]
        )
        self.add_module("fc_norm" if mean else "norm", nn.LayerNorm(dim, eps=1e-6))
        if classes:
            self.head = nn.Linear(dim, classes)

    def tokens(self, images, mask_BL=None):
        x = patches(self.patch_embed.proj(images))
        x = x if mask_BL is None else masked(x, mask_BL, self.mask_token, replace=True)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + getattr(self, "pos_embed", 0.0)
        for block in self.blocks:
            a = block.attn
            k_bias = torch.zeros_like(a.q_bias)
            q, k, v = F.linear(block.norm1(x), a.qkv.weight, torch.cat([a.q_bias, k_bias, a.v_bias])).chunk(3, -1)
            bias = self.rel_pos_bias.bias() if self.shared else a.bias()
            x = x + block.gamma_1 * a.proj(attend(q, k, v, self.heads, bias))
            x = x + block.gamma_2 * run_mlp(block.mlp.fc1, block.mlp.fc2, block.norm2(x))
        return x if self.mean else self.norm(x)

    def forward(self, images):
        x = self.tokens(images)
        x = self.fc_norm(x[:, 1:].mean(1)) if self.mean else x[:, 0]
        return self.head(x) if hasattr(self, "head") else x


# --- Swin


def window_attention(x_BHWD, q_k_v, proj, heads, window, shift, table, index):
    """Attention inside of windows of the image that was rolled by `shift`; what was rolled around does not mix."""
    size = x_BHWD.shape[1]
    x = torch.roll(x_BHWD, (-shift, -shift), (1, 2))
    place = torch.arange(size)
    region = torch.where(place < size - window, 0, torch.where(place < size - shift, 1, 2)) if shift else 0 * place
    region_HW = 3 * region[:, None] + region[None, :]
    bias_HLL = table[index].permute(2, 0, 1)
    out = torch.zeros_like(x)
    for row in range(0, size, window):
        for column in range(0, size, window):
            here = (slice(None), slice(row, row + window), slice(column, column + window))
            cell = x[here].flatten(1, 2)
            label = region_HW[here[1:]].flatten()
            mask = torch.where(label[:, None] == label[None, :], 0.0, -100.0).double()
            q, k, v = q_k_v(cell)
            out[here] = proj(attend(q, k, v, heads, bias_HLL + mask)).unflatten(1, (window, window))
    return torch.roll(out, (shift, shift), (1, 2))


class Swin(nn.Module):
    """The original Swin (2 stages): layers.N.blocks.M, and downsampling at the end of a stage.

    windows: of each stage; a stage that is no larger than its window has one alone, and no shift.
    """

    def __init__(self, classes=5, dim=16, windows=(2, 2), heads=(2, 4), image=32):
        super().__init__()
        self.heads, self.windows = heads, windows
        self.patch_embed = Named(proj=nn.Conv2d(3, dim, 4, 4), norm=nn.LayerNorm(dim))
        self.layers = nn.ModuleList()
        for stage, n in enumerate(heads):
            wide = dim * 2**stage
            window, cells = windows[stage], image // 4 // 2**stage
            shifts = (0, window // 2 if cells > window else 0)
            blocks = [self.block(wide, n, window, shift, (cells // window) ** 2) for shift in shifts]
            parts = {"blocks": nn.ModuleList(blocks)}
            if stage < len(heads) - 1:
                reduction = nn.Linear(4 * wide, 2 * wide, bias=False)
                parts["downsample"] = Named(norm=nn.LayerNorm(4 * wide), reduction=reduction)
            self.layers.append(Named(**parts))
        self.norm = nn.LayerNorm(wide)
        if classes:
            self.head = nn.Linear(wide, classes)

    def block(self, dim, heads, window, shift, count):
        attn = Named(qkv=nn.Linear(dim, 3 * dim), proj=nn.Linear(dim, dim))
        attn.relative_position_bias_table = vector((2 * window - 1) ** 2, heads)
        attn.register_buffer("relative_position_index", relative_index(window, cls=False))
        block = Named(norm1=nn.LayerNorm(dim), attn=attn, norm2=nn.LayerNorm(dim), mlp=mlp(dim))
        if shift:
            block.register_buffer("attn_mask", torch.zeros(count, window**2, window**2))
        return block

    def tokens(self, images, mask_BLL=None):
        x = self.patch_embed.norm(self.patch_embed.proj(images).permute(0, 2, 3, 1))
        x = x if mask_BLL is None else masked(x, mask_BLL, self.mask_token, replace=True)
        for heads, window, layer in zip(self.heads, self.windows, self.layers, strict=True):
            for shift, block in zip((0, window // 2), layer.blocks, strict=True):
                shift = 0 if x.shape[1] <= window else shift
                a = block.attn
                table, index = a.relative_position_bias_table, a.relative_position_index
                x = x + window_attention(
                    block.norm1(x),
                    lambda y, a=a: a.qkv(y).chunk(3, -1),
                    a.proj,
                    heads,
                    window,
                    shift,
                    table,
                    index,
                )
                x = x + run_mlp(block.mlp.fc1, block.mlp.fc2, block.norm2(x))
            if hasattr(layer, "downsample"):
                four = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
                x = layer.downsample.reduction(layer.downsample.norm(torch.cat(four, -1)))
        return self.norm(x)

    def forward(self, images):
        x = self.tokens(images).mean((1, 2))
        return self.head(x) if hasattr(self, "head") else x


class SimMIM(nn.Module):
    """models/simmim.py: an encoder with a mask token, and one convolution as decoder."""

    def __init__(self, encoder, dim, decoder=0):
        super().__init__()
        self.encoder = encoder
        self.encoder.mask_token = vector(1, 1, dim)
        self.decoder = nn.Sequential(nn.Conv2d(decoder or dim, 8 * 8 * 3, 1), nn.PixelShuffle(8))

    def reconstruct(self, images, mask_BLL):
        """mask_BLL: of patch tokens."""
        if isinstance(self.encoder, Swin):
            return shuffled(self.decoder[0], self.encoder.tokens(images, mask_BLL).permute(0, 3, 1, 2), 8)
        return shuffled(self.decoder[0], tokens_to_map(self.encoder.tokens(images, mask_BLL.flatten(1))[:, 1:]), 8)


# --- ConvNeXt


def channels_first(norm, x_BCHW):
    return norm(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """models/convnext.py: downsample_layers.N (0: the stem), stages.N.M.{dwconv, norm, pwconv1, pwconv2, gamma}."""

    def __init__(self, classes=5, dims=(8, 12, 16, 20), depths=(1, 1, 2, 1), last="norm", head="head"):
        super().__init__()
        self.last, self.head_name = last, head
        stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, 4), nn.LayerNorm(dims[0], eps=1e-6))
        downs = [nn.Sequential(nn.LayerNorm(a, eps=1e-6), nn.Conv2d(a, b, 2, 2)) for a, b in pairwise(dims)]
        self.downsample_layers = nn.ModuleList([stem, *downs])
        self.stages = nn.ModuleList(
            [nn.Sequential(*[self.block(dim) for _ in range(n)]) for dim, n in zip(dims, depths, strict=True)]
        )
        if last:
            self.add_module(last, nn.LayerNorm(dims[-1], eps=1e-6))
        if classes:
            self.add_module(head, nn.Linear(dims[-1], classes))

    def block(self, dim):
        return Named(
            dwconv=nn.Conv2d(dim, dim, 7, padding=3, groups=dim),
            norm=nn.LayerNorm(dim, eps=1e-6),
            pwconv1=nn.Linear(dim, 4 * dim),
            pwconv2=nn.Linear(4 * dim, dim),
            gamma=vector(dim),
        )

    def run_block(self, block, x):
        y = block.norm(block.dwconv(x).permute(0, 2, 3, 1))
        return x + (block.gamma * run_mlp(block.pwconv1, block.pwconv2, y)).permute(0, 3, 1, 2)

    def feature_map(self, images, before=lambda n, x: x, after=lambda n, x: x):
        """before, after: what to do with the map in front of and behind the blocks of a stage."""
        x = images
        for n, (down, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = channels_first(down[1], down[0](x)) if n == 0 else down[1](channels_first(down[0], x))
            x = before(n, x)
            for block in stage:
                x = after(n, self.run_block(block, x))
        return x

    def forward(self, images):
        x = getattr(self, self.last)(self.feature_map(images).mean((2, 3)))
        return getattr(self, self.head_name)(x) if hasattr(self, self.head_name) else x


class MMConvNeXt(ConvNeXt):
    """mmpretrain's and OpenMixup's: other names inside of the blocks, and convolutions if asked for."""

    def __init__(self, linear=True, **arguments):
        self.linear = linear
        super().__init__(classes=0, last="norm3", **arguments)

    def block(self, dim):
        def layer(a, b):
            return nn.Linear(a, b) if self.linear else nn.Conv2d(a, b, 1)

        return Named(
            depthwise_conv=nn.Conv2d(dim, dim, 7, padding=3, groups=dim),
            norm=nn.LayerNorm(dim, eps=1e-6),
            pointwise_conv1=layer(dim, 4 * dim),
            pointwise_conv2=layer(4 * dim, dim),
            gamma=vector(dim),
        )

    def run_block(self, block, x):
        y = channels_first(block.norm, block.depthwise_conv(x))
        if self.linear:
            y = run_mlp(block.pointwise_conv1, block.pointwise_conv2, y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        else:
            y = run_mlp(block.pointwise_conv1, block.pointwise_conv2, y)
        return x + block.gamma[:, None, None] * y


# --- SparK


class SparK(nn.Module):
    """pretrain/spark.py, decoder.py: the sparse encoder, whose dense pass is the network's own; densifying layers, the
    coarsest first; a UNet decoder from stride 32; buffers without a use."""

    def __init__(self, cnn, widths, norm, decoder=32, size=64):
        super().__init__()
        self.sparse_encoder = Named(sp_cnn=cnn)
        self.densify_norms = nn.ModuleList([norm(width) for width in widths])
        self.densify_projs = nn.ModuleList([self.project(n, width, decoder >> n) for n, width in enumerate(widths)])
        self.mask_tokens = nn.ParameterList([vector(1, width, 1, 1) for width in widths])
        blocks = [self.block(decoder >> n, decoder >> (n + 1)) for n in range(5)]
        self.dense_decoder = Named(dec=nn.ModuleList(blocks), proj=nn.Conv2d(decoder >> 5, 3, 1))
        for name, shape in {"imn_m": (1, 3, 1, 1), "imn_s": (1, 3, 1, 1), "norm_black": (1, 3, size, size)}.items():
            self.register_buffer(name, torch.zeros(shape))

    def project(self, n, width, out):
        return nn.Identity() if n == 0 and width == out else nn.Conv2d(width, out, 3 if n else 1, padding=min(n, 1))

    def block(self, width, out):
        convolutions = [nn.Conv2d(width, each, 3, padding=1, bias=False) for each in (width, out)]
        norms = [nn.BatchNorm2d(each) for each in (width, out)]
        conv = nn.Sequential(convolutions[0], norms[0], nn.ReLU6(), convolutions[1], norms[1])
        return Named(up_sample=nn.ConvTranspose2d(width, width, 4, 2, 1), conv=conv)

    def reconstruct(self, images, mask_BLL):
        """The prediction (B, 3, H, W), each patch of 32 px in units of its own."""

        def hide(x):
            return x * (1 - at_pixels(mask_BLL, x.shape[2] // mask_BLL.shape[1]))[:, None]

        cnn = self.sparse_encoder.sp_cnn
        if isinstance(cnn, ConvNeXt):
            maps = sparse_convnext(cnn, images, hide)
        else:
            maps = sparse_resnet(cnn, images, hide)
        y = 0.0
        for n, block in enumerate(self.dense_decoder.dec):
            if n < len(maps):
                x, norm = maps[-1 - n], self.densify_norms[n]
                normed = channels_first(norm, x) if isinstance(norm, nn.LayerNorm) else norm(x)
                visible = hide(torch.ones_like(x)) > 0
                y = y + self.densify_projs[n](torch.where(visible, normed, self.mask_tokens[n]))
            y = block.conv(block.up_sample(y))
        return self.dense_decoder.proj(y)


def sparse_convnext(net, images, hide):
    """The four maps of a ConvNeXt, with zeros at masked positions in front of and behind every block."""
    last = {}

    def keep(stage, x):
        last[stage] = hide(x)
        return last[stage]

    net.feature_map(hide(images), lambda _, x: hide(x), keep)
    return list(last.values())


def sparse_resnet(net, images, hide):
    """The four maps of torchvision's ResNet of either block, with zeros at masked positions after every layer."""
    x = hide(net.maxpool(hide(F.relu(net.bn1(net.conv1(hide(images)))))))
    maps = []
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        for block in layer:
            y = hide(block.bn2(block.conv2(hide(F.relu(block.bn1(block.conv1(x)))))))
            if hasattr(block, "conv3"):
                y = hide(block.bn3(block.conv3(F.relu(y))))
            x = F.relu(y + (x if block.downsample is None else hide(block.downsample(x))))
        maps.append(x)
    return maps


# --- OpenMMLab


class MMViT(nn.Module):
    """OpenMixup's and mmpretrain's transformer: layers.N.{ln1, attn, ln2, ffn.layers}, patch_embed.projection."""

    def __init__(self, dim=128, heads=2, depth=2, mean=False, beit=False, scale="", mask=False, ratio=4):
        super().__init__()
        self.heads, self.mean, self.beit, self.scale = heads, mean, beit, scale
        self.cls_token = vector(1, 1, dim)
        self.pos_embed = vector(1, 17, dim)
        self.patch_embed = Named(projection=nn.Conv2d(3, dim, 8, 8))
        self.layers = nn.ModuleList([self.layer(dim, heads, ratio) for _ in range(depth)])
        self.add_module({False: "ln1", True: "fc_norm", "mm": "ln2"}[mean], nn.LayerNorm(dim, eps=1e-6))
        if mask:
            self.mask_token, self.mask_gamma = vector(1, 1, dim), vector(dim)

    def layer(self, dim, heads, ratio):
        plain = Named(qkv=nn.Linear(dim, 3 * dim), proj=nn.Linear(dim, dim))
        attn = BeitAttention(dim, heads, 4, True) if self.beit else plain
        ffn = Named(layers=nn.Sequential(nn.Sequential(nn.Linear(dim, ratio * dim)), nn.Linear(ratio * dim, dim)))
        if self.scale == "mm":
            attn.gamma1, ffn.gamma2 = Named(weight=vector(dim)), Named(weight=vector(dim))
        scales = {"gamma_1": vector(dim), "gamma_2": vector(dim)} if self.scale == "openmixup" else {}
        return Named(ln1=nn.LayerNorm(dim, eps=1e-6), attn=attn, ln2=nn.LayerNorm(dim, eps=1e-6), ffn=ffn, **scales)

    def scales(self, layer):
        if self.scale == "mm":
            return layer.attn.gamma1.weight, layer.ffn.gamma2.weight
        return getattr(layer, "gamma_1", 1.0), getattr(layer, "gamma_2", 1.0)

    def tokens(self, images, mask_BL=None, replace=False):
        x = patches(self.patch_embed.projection(images))
        if mask_BL is not None:
            x = masked(x, mask_BL, self.mask_token, getattr(self, "mask_gamma", None), replace)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for layer in self.layers:
            a, y = layer.attn, layer.ln1(x)
            first, second = self.scales(layer)
            if self.beit:
                q, k, v = F.linear(y, a.qkv.weight).chunk(3, -1)
                q, v, bias = q + a.q_bias, v + a.v_bias, a.bias()
            else:
                (q, k, v), bias = a.qkv(y).chunk(3, -1), 0.0
            x = x + first * a.proj(attend(q, k, v, self.heads, bias))
            x = x + second * run_mlp(layer.ffn.layers[0][0], layer.ffn.layers[1], layer.ln2(x))
        return x if self.mean else self.ln1(x)

    def forward(self, images):
        x = self.tokens(images)
        if not self.mean:
            return x[:, 0]
        return (self.ln2 if self.mean == "mm" else self.fc_norm)(x[:, 1:].mean(1))


class MMSwin(Swin):
    """mmpretrain's: stages.N.blocks.M.attn.w_msa, ffn, norm3; patch merging by nn.Unfold."""

    def __init__(self, **arguments):
        super().__init__(classes=0, **arguments)
        del self.patch_embed.proj
        self.patch_embed.projection = nn.Conv2d(3, 16, 4, 4)
        self.stages, self.norm3 = self.layers, self.norm
        del self.layers, self.norm
        for stage in self.stages:
            for block in stage.blocks:
                block.attn = Named(w_msa=block.attn)
                block.ffn = Named(layers=nn.Sequential(nn.Sequential(block.mlp.fc1), block.mlp.fc2))
                del block.mlp

    def forward(self, images):
        x = self.patch_embed.norm(self.patch_embed.projection(images).permute(0, 2, 3, 1))
        for heads, stage in zip(self.heads, self.stages, strict=True):
            for shift, block in zip((0, self.windows[0] // 2), stage.blocks, strict=True):
                shift = 0 if x.shape[1] <= self.windows[0] else shift
                a = block.attn.w_msa
                table, index = a.relative_position_bias_table, a.relative_position_index
                x = x + window_attention(
                    block.norm1(x),
                    lambda y, a=a: a.qkv(y).chunk(3, -1),
                    a.proj,
                    heads,
                    self.windows[0],
                    shift,
                    table,
                    index,
                )
                x = x + run_mlp(block.ffn.layers[0][0], block.ffn.layers[1], block.norm2(x))
            if hasattr(stage, "downsample"):
                half = x.shape[1] // 2
                x = F.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
                x = stage.downsample.reduction(stage.downsample.norm(x)).unflatten(1, (half, half))
        return self.norm3(x).mean((1, 2))


# --- Hugging Face


class HFViT(nn.Module):
    """transformers' ViTModel (and DeiT's, with `dist`): query, key and value apart."""

    def __init__(self, dim=128, heads=2, depth=2, eps=1e-12, dist=False, beit=False, shared=False, mean=False):
        super().__init__()
        self.heads, self.beit, self.shared, self.mean = heads, beit, shared, mean
        projection = nn.Conv2d(3, dim, 8, 8)
        self.embeddings = Named(cls_token=vector(1, 1, dim), patch_embeddings=Named(projection=projection))
        if not beit:
            self.embeddings.position_embeddings = vector(1, 17 + dist, dim)
        if dist:
            self.embeddings.distillation_token = vector(1, 1, dim)
        self.encoder = Named(layer=nn.ModuleList([self.layer(dim, eps) for _ in range(depth)]))
        if shared:
            self.encoder.relative_position_bias = Table(4, heads)
        if mean:
            self.pooler = Named(layernorm=nn.LayerNorm(dim, eps=eps))
        else:
            self.layernorm = nn.LayerNorm(dim, eps=eps)

    def layer(self, dim, eps):
        inner = Named(query=nn.Linear(dim, dim), key=nn.Linear(dim, dim, bias=not self.beit), value=nn.Linear(dim, dim))
        if self.beit and not self.shared:
            inner.relative_position_bias = Table(4, self.heads)
        layer = Named(
            attention=Named(attention=inner, output=Named(dense=nn.Linear(dim, dim))),
            intermediate=Named(dense=nn.Linear(dim, 4 * dim)),
            output=Named(dense=nn.Linear(4 * dim, dim)),
            layernorm_before=nn.LayerNorm(dim, eps=eps),
            layernorm_after=nn.LayerNorm(dim, eps=eps),
        )
        if self.beit:
            layer.lambda_1, layer.lambda_2 = vector(dim), vector(dim)
        return layer

    def tokens(self, images):
        e = self.embeddings
        x = patches(e.patch_embeddings.projection(images))
        first = [e.cls_token] + ([e.distillation_token] if hasattr(e, "distillation_token") else [])
        x = torch.cat([*[token.expand(len(x), -1, -1) for token in first], x], 1)
        x = x + getattr(e, "position_embeddings", 0.0)
        for layer in self.encoder.layer:
            a, y = layer.attention.attention, layer.layernorm_before(x)
            table = self.encoder.relative_position_bias if self.shared else getattr(a, "relative_position_bias", None)
            bias = table.bias() if table is not None else 0.0
            y = layer.attention.output.dense(attend(a.query(y), a.key(y), a.value(y), self.heads, bias))
            x = x + getattr(layer, "lambda_1", 1.0) * y
            y = run_mlp(layer.intermediate.dense, layer.output.dense, layer.layernorm_after(x))
            x = x + getattr(layer, "lambda_2", 1.0) * y
        return x if self.mean else self.layernorm(x)


class HFMAE(nn.Module):
    """transformers' ViTMAEForPreTraining, its decoder with 4 heads."""

    def __init__(self, dim=128, decoder=64):
        super().__init__()
        self.vit = HFViT(dim)
        self.decoder = Named(
            decoder_embed=nn.Linear(dim, decoder),
            mask_token=vector(1, 1, decoder),
            decoder_pos_embed=vector(1, 17, decoder),
            decoder_layers=nn.ModuleList([self.vit.layer(decoder, 1e-12) for _ in range(2)]),
            decoder_norm=nn.LayerNorm(decoder, eps=1e-12),
            decoder_pred=nn.Linear(decoder, 8 * 8 * 3),
        )

    def reconstruct(self, images, mask_BL):
        e, d, rows = self.vit.embeddings, self.decoder, []
        for image, mask_L in zip(images, mask_BL, strict=True):
            keep = [k for k in range(len(mask_L)) if not mask_L[k]]
            x = patches(e.patch_embeddings.projection(image[None])) + e.position_embeddings[:, 1:]
            x = torch.cat([e.cls_token + e.position_embeddings[:, :1], x[:, keep]], 1)
            for layer in self.vit.encoder.layer:
                x = hf_layer(layer, x, 2)
            x = d.decoder_embed(self.vit.layernorm(x))
            full = [d.mask_token[0, 0]] * len(mask_L)
            for place, k in enumerate(keep):
                full[k] = x[0, 1 + place]
            y = torch.stack([x[0, 0], *full])[None] + d.decoder_pos_embed
            for layer in d.decoder_layers:
                y = hf_layer(layer, y, 4)
            rows.append(d.decoder_pred(d.decoder_norm(y))[0, 1:])
        return torch.stack(rows)


def hf_layer(layer, x, heads):
    a, y = layer.attention.attention, layer.layernorm_before(x)
    x = x + layer.attention.output.dense(attend(a.query(y), a.key(y), a.value(y), heads))
    return x + run_mlp(layer.intermediate.dense, layer.output.dense, layer.layernorm_after(x))


class HFConvNeXt(nn.Module):
    """transformers' ConvNextModel: the last norm has another epsilon than those inside."""

    def __init__(self, dims=(8, 12, 16, 20), depths=(1, 1, 2, 1)):
        super().__init__()
        norm = nn.LayerNorm(dims[0], eps=1e-6)
        self.embeddings = Named(patch_embeddings=nn.Conv2d(3, dims[0], 4, 4), layernorm=norm)
        self.encoder = Named(stages=nn.ModuleList())
        for n, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            stage = Named(layers=nn.Sequential(*[self.block(dim) for _ in range(depth)]))
            if n:
                down = nn.Sequential(nn.LayerNorm(dims[n - 1], eps=1e-6), nn.Conv2d(dims[n - 1], dim, 2, 2))
                stage.downsampling_layer = down
            self.encoder.stages.append(stage)
        self.layernorm = nn.LayerNorm(dims[-1], eps=1e-12)

    def block(self, dim):
        return Named(
            dwconv=nn.Conv2d(dim, dim, 7, padding=3, groups=dim),
            layernorm=nn.LayerNorm(dim, eps=1e-6),
            pwconv1=nn.Linear(dim, 4 * dim),
            pwconv2=nn.Linear(4 * dim, dim),
            layer_scale_parameter=vector(dim),
        )

    def forward(self, images):
        x = channels_first(self.embeddings.layernorm, self.embeddings.patch_embeddings(images))
        for stage in self.encoder.stages:
            if hasattr(stage, "downsampling_layer"):
                x = stage.downsampling_layer[1](channels_first(stage.downsampling_layer[0], x))
            for block in stage.layers:
                y = block.layernorm(block.dwconv(x).permute(0, 2, 3, 1))
                y = block.layer_scale_parameter * run_mlp(block.pwconv1, block.pwconv2, y)
                x = x + y.permute(0, 3, 1, 2)
        return self.layernorm(x.mean((2, 3)))


class HFConvolution(nn.Module):
    """ResNetConvLayer without its activation."""

    def __init__(self, a, b, size, stride=1):
        super().__init__()
        self.convolution = nn.Conv2d(a, b, size, stride, size // 2, bias=False)
        self.normalization = nn.BatchNorm2d(b)

    def forward(self, x):
        return self.normalization(self.convolution(x))


class HFResNet(nn.Module):
    """transformers' ResNetModel, bottleneck or basic."""

    def __init__(self, bottleneck=True, depths=(1, 2, 1, 1), first=64):
        super().__init__()
        self.embedder = Named(embedder=HFConvolution(3, first, 7, 2))
        self.encoder = Named(stages=nn.ModuleList())
        wide = first
        for n, depth in enumerate(depths):
            out = first * 2**n * (4 if bottleneck else 1)
            layers = []
            for k in range(depth):
                stride = 2 if n and not k else 1
                inside = first * 2**n
                sizes = [(wide, inside, 1, 1), (inside, inside, 3, stride), (inside, out, 1, 1)]
                sizes = sizes if bottleneck else [(wide, out, 3, stride), (out, out, 3, 1)]
                parts = {"layer": nn.Sequential(*[HFConvolution(*size) for size in sizes])}
                if wide != out or stride > 1:
                    parts["shortcut"] = HFConvolution(wide, out, 1, stride)
                layers.append(Named(**parts))
                wide = out
            self.encoder.stages.append(Named(layers=nn.Sequential(*layers)))
        self.wide = wide

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.embedder.embedder(images)), 3, 2, 1)
        for stage in self.encoder.stages:
            for block in stage.layers:
                y = x
                for n, layer in enumerate(block.layer):
                    y = layer(y) if n == len(block.layer) - 1 else F.relu(layer(y))
                x = F.relu(y + (block.shortcut(x) if hasattr(block, "shortcut") else x))
        return x.mean((2, 3))
