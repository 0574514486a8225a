"""Networks of newer formats, written from their public code as `layouts` are: the oracles of the reader."""

import re

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from tests.a2mim.checkpoints.layouts import (
    ConvNeXt,
    Named,
    ViT,
    attend,
    channels_first,
    patches,
    randomise,
    run_mlp,
    vector,
)


class DINOv2(ViT):
    """dinov2/models/vision_transformer.py: ls1.gamma, registers without positions, SwiGLU in the giant."""

    def __init__(self, registers=0, gated=False, **arguments):
        self.gated = gated
        super().__init__(**arguments)
        self.mask_token = vector(1, self.norm.normalized_shape[0])
        if registers:
            self.register_tokens = vector(1, registers, self.norm.normalized_shape[0])

    def block(self, dim, eps, gamma):
        block = super().block(dim, eps, False)
        block.ls1, block.ls2 = Named(gamma=vector(dim)), Named(gamma=vector(dim))
        if self.gated:
            block.mlp = Named(w12=nn.Linear(dim, 2 * 96), w3=nn.Linear(96, dim))
        return block

    def tokens(self, images):
        x = patches(self.patch_embed.proj(images))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        if hasattr(self, "register_tokens"):
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], 1)
        for block in self.blocks:
            q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, -1)
            x = x + block.ls1.gamma * block.attn.proj(attend(q, k, v, self.heads))
            x = x + block.ls2.gamma * self.feed(block.mlp, block.norm2(x))
        return self.norm(x)

    def feed(self, mlp, x):
        if not self.gated:
            return run_mlp(mlp.fc1, mlp.fc2, x)
        first, second = mlp.w12(x).chunk(2, -1)
        return mlp.w3(F.silu(first) * second)


class CLIPTower(nn.Module):
    """clip/model.py, VisionTransformer: norms before the blocks and behind the class token, attention's in_proj."""

    def __init__(self, dim=128, heads=2, depth=2, image=32, patch=8):
        super().__init__()
        self.heads = heads
        self.conv1 = nn.Conv2d(3, dim, patch, patch, bias=False)
        self.class_embedding = vector(dim)
        self.positional_embedding = vector(1 + (image // patch) ** 2, dim)
        self.ln_pre, self.ln_post = nn.LayerNorm(dim), nn.LayerNorm(dim)
        blocks = []
        for _ in range(depth):
            attn = nn.MultiheadAttention(dim, heads)
            mlp = Named(c_fc=nn.Linear(dim, 4 * dim), c_proj=nn.Linear(4 * dim, dim))
            blocks.append(Named(attn=attn, ln_1=nn.LayerNorm(dim), ln_2=nn.LayerNorm(dim), mlp=mlp))
        self.transformer = Named(resblocks=nn.ModuleList(blocks))
        self.proj = vector(dim, 16)

    def features(self, images, quick, mean=False):
        x = patches(self.conv1(images))
        first = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], 1) + self.positional_embedding)
        for block in self.transformer.resblocks:
            q, k, v = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
            x = x + block.attn.out_proj(attend(q, k, v, self.heads))
            y = block.mlp.c_fc(block.ln_2(x))
            x = x + block.mlp.c_proj(y * torch.sigmoid(1.702 * y) if quick else F.gelu(y))
        return self.ln_post(x[:, 1:].mean(1) if mean else x[:, 0])


HUGGING_CLIP = {
    "conv1": "embeddings.patch_embedding",
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
    "transformer.resblocks": "encoder.layers",
    "ln_": "layer_norm",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def hugging_clip(net):
    """The state of a CLIPTower in the names of transformers' modeling_clip.py; the projection stands outside of it."""
    made = {}
    for key, x in net.state_dict().items():
        for old, new in HUGGING_CLIP.items():
            key = key.replace(old, new)
        block, joined, leaf = key.partition("attn.in_proj_")
        parts = zip("qkv", x.chunk(3), strict=True) if joined else ()
        made |= {f"vision_model.{block}self_attn.{n}_proj.{leaf}": part.contiguous() for n, part in parts}
        if not joined and key != "proj":
            made[f"vision_model.{key}"] = x
    return made


class CLIPResNet(nn.Module):
    """clip/model.py, ModifiedResNet: three convolutions, means before strides, attention from the mean of the map."""

    def __init__(self, layers=(1, 1, 1, 1), width=16, side=2):
        super().__init__()
        widths = (3, width // 2, width // 2, width)
        for n in (1, 2, 3):
            setattr(self, f"conv{n}", nn.Conv2d(widths[n - 1], widths[n], 3, 2 if n == 1 else 1, 1, bias=False))
            setattr(self, f"bn{n}", nn.BatchNorm2d(widths[n]))
        inside = width
        for n, count in enumerate(layers):
            out, blocks = width * 2**n, []
            for k in range(count):
                block = Named(
                    conv1=nn.Conv2d(inside, out, 1, bias=False),
                    bn1=nn.BatchNorm2d(out),
                    conv2=nn.Conv2d(out, out, 3, padding=1, bias=False),
                    bn2=nn.BatchNorm2d(out),
                    conv3=nn.Conv2d(out, 4 * out, 1, bias=False),
                    bn3=nn.BatchNorm2d(4 * out),
                )
                if k == 0:
                    short = {"0": nn.Conv2d(inside, 4 * out, 1, bias=False), "1": nn.BatchNorm2d(4 * out)}
                    block.downsample = Named(**short)
                inside = 4 * out
                blocks.append(block)
            setattr(self, f"layer{n + 1}", nn.ModuleList(blocks))
        self.heads = inside // 64
        self.attnpool = Named(**{f"{name}_proj": nn.Linear(inside, inside) for name in "qkv"})
        self.attnpool.c_proj = nn.Linear(inside, 8)
        self.attnpool.positional_embedding = vector(side**2 + 1, inside)

    def pooled(self, images):
        x = images
        for n in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(x)))
        x = F.avg_pool2d(x, 2)
        for n in (1, 2, 3, 4):
            for k, block in enumerate(getattr(self, f"layer{n}")):
                halve = (lambda x: F.avg_pool2d(x, 2)) if n > 1 and k == 0 else (lambda x: x)
                y = F.relu(block.bn1(block.conv1(x)))
                y = block.bn3(block.conv3(halve(F.relu(block.bn2(block.conv2(y))))))
                if k == 0:
                    x = getattr(block.downsample, "1")(getattr(block.downsample, "0")(halve(x)))
                x = F.relu(x + y)
        tokens = patches(x)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + self.attnpool.positional_embedding
        query, key, value = (getattr(self.attnpool, f"{name}_proj")(tokens) for name in "qkv")
        return attend(query[:, :1], key, value, self.heads)[:, 0]

    def features(self, images, quick, mean=False):
        return self.attnpool.c_proj(self.pooled(images))


class ConvNeXtV2(ConvNeXt):
    """models/convnextv2.py: a global response norm inside of each block, and no layer scale."""

    def block(self, dim):
        block = super().block(dim)
        del block.gamma
        block.grn = Named(gamma=vector(1, 1, 1, 4 * dim), beta=vector(1, 1, 1, 4 * dim))
        return block

    def run_block(self, block, x):
        y = F.gelu(block.pwconv1(block.norm(block.dwconv(x).permute(0, 2, 3, 1))))
        energy = y.square().sum((1, 2), keepdim=True).sqrt()
        y = block.grn.gamma * (y * energy / (energy.mean(-1, keepdim=True) + 1e-6)) + block.grn.beta + y
        return x + block.pwconv2(y).permute(0, 3, 1, 2)


def sparse_names(state):
    """A dense ConvNeXt V2 as MinkowskiEngine names and shapes it (models/convnextv2_sparse.py)."""
    made = {}
    for key, x in state.items():
        key = re.sub(r"(stages\.\d\.\d+\.norm|downsample_layers\.[123]\.0)\.", r"\1.ln.", key)
        key = re.sub(r"(pwconv[12])\.", r"\1.linear.", key)
        if re.search(r"dwconv\.weight|downsample_layers\.[123]\.1\.weight", key):
            turned = x.transpose(2, 3)  # places go down the columns
            key = key.replace("weight", "kernel")
            x = turned.flatten(2)[:, 0].T if "dwconv" in key else turned.flatten(2).permute(2, 1, 0)
        made[f"encoder.{key}"] = x.contiguous()
    return made


class ConvStemViT(ViT):
    """moco-v3's vits.py: ConvStem in place of one convolution (here for patches of 16 px)."""

    def __init__(self, dim=384, image=32, **arguments):
        super().__init__(dim=dim, image=image, patch=16, **arguments)
        layers = []
        for narrow, wide in ((3, dim // 8), (dim // 8, dim // 4), (dim // 4, dim // 2), (dim // 2, dim)):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        self.patch_embed = Named(proj=nn.Sequential(*layers, nn.Conv2d(dim, dim, 1)))


class Parallel(ViT):
    """deit's models_v2.py: two attentions side by side, then two MLPs, each pair added at once."""

    def block(self, dim, eps, gamma):
        one, two = super().block(dim, eps, False), super().block(dim, eps, False)
        one.norm11, one.norm21, one.attn1, one.mlp1 = two.norm1, two.norm2, two.attn, two.mlp
        return one


def torchvision_swin(second):
    """A small Swin of torchvision's, of images of 32 px; V2 has buffers that tell its windows."""
    sizes = {"patch_size": [4, 4], "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4]}
    extra = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2} if second else {}
    net = SwinTransformer(num_classes=5, **sizes, **extra)
    tables = {name: x.clone() for name, x in net.named_buffers() if "coords" in name}
    randomise(net)
    for name, x in net.named_buffers():
        if name in tables:
            x.data = tables[name].double()
    return net


def original_swin_v2(state):
    """torchvision's Swin V2 under the names of github.com/microsoft/Swin-Transformer, swin_transformer_v2.py."""
    made = {}
    for key, x in state.items():
        key = re.sub(r"^features\.0\.0\.", "patch_embed.proj.", key)
        key = re.sub(r"^features\.0\.2\.", "patch_embed.norm.", key)
        key = re.sub(r"^features\.1\.", "layers.0.blocks.", key)
        key = re.sub(r"^features\.2\.", "layers.0.downsample.", key)
        key = re.sub(r"^features\.3\.", "layers.1.blocks.", key)
        key = key.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.").replace("cpb_mlp.fc1.", "cpb_mlp.0.")
        if key.endswith("attn.qkv.bias"):
            made[key.replace("qkv.bias", "q_bias")], _, made[key.replace("qkv.bias", "v_bias")] = x.chunk(3)
        else:
            made[key] = x
    return made


def hugging_swin_v2(state):
    """The same under the names of Hugging Face transformers, models/swinv2/modeling_swinv2.py: keys have no bias, and
    the tables are not saved."""
    made = {}
    for key, x in state.items():
        if "relative" in key:
            continue
        key = key.replace("features.0.0.", "embeddings.patch_embeddings.projection.")
        key = key.replace("features.0.2.", "embeddings.norm.")
        key = re.sub(r"^features\.([13])\.", lambda found: f"encoder.layers.{int(found[1]) // 2}.blocks.", key)
        key = re.sub(r"^features\.2\.", "encoder.layers.0.downsample.", key)
        key = key.replace("cpb_mlp.", "continuous_position_bias_mlp.").replace("attn.proj.", "attention.output.dense.")
        if "continuous_position" not in key:
            key = key.replace(".mlp.0.", ".intermediate.dense.").replace(".mlp.3.", ".output.dense.")
        if key.startswith("encoder.layers"):
            key = key.replace(".norm1.", ".layernorm_before.").replace(".norm2.", ".layernorm_after.")
        key = re.sub(r"^norm\.", "layernorm.", key).replace(".attn.", ".attention.self.")
        key = key if key.startswith("head.") else f"swinv2.{key}"
        parts = zip(("query", "key", "value"), x.chunk(3), strict=True) if ".qkv." in key else [("qkv", x)]
        for name, part in parts:
            if not key.endswith("qkv.bias") or name != "key":
                made[key.replace("qkv", name).replace("head.", "classifier.")] = part
    return made


# --- whole masked-image networks


class FCMAE(ConvNeXtV2):
    """models/fcmae.py: the encoder on visible positions alone; proj, mask token, one block, pred."""

    def __init__(self, width=16, **arguments):
        super().__init__(classes=0, last="", **arguments)
        self.proj = nn.Conv2d(self.stages[-1][0].norm.normalized_shape[0], width, 1)
        self.mask_token = vector(1, width, 1, 1)
        self.decoder = nn.Sequential(self.block(width))
        self.pred = nn.Conv2d(width, 32 * 32 * 3, 1)

    def official(self):
        """The state as the public code saves it: the encoder under MinkowskiEngine's names."""
        whole = self.state_dict()
        own = ("proj.", "mask_token", "decoder.", "pred.")
        encoder = {key: x for key, x in whole.items() if not key.startswith(own)}
        return {**sparse_names(encoder), **{key: x for key, x in whole.items() if key.startswith(own)}}

    def sparse_block(self, block, x, visible):
        """convnextv2_sparse.py on the visible positions of one image: a list of them behind the convolution."""
        y = block.dwconv(x)[0].permute(1, 2, 0)[visible]
        y = F.gelu(block.pwconv1(block.norm(y)))
        energy = y.norm(p=2, dim=0, keepdim=True)
        y = block.grn.gamma[0, 0] * (y * (energy / (energy.mean(-1, keepdim=True) + 1e-6))) + block.grn.beta[0, 0] + y
        made = torch.zeros_like(x)
        made[0, :, visible] = block.pwconv2(y).T
        return x + made

    def reconstruct(self, images, mask_BL):
        """The predicted patches (B, L, 3072) of images one by one; every position is visible or hidden as a whole."""
        rows = []
        for image, mask_L in zip(images, mask_BL, strict=True):
            side = int(len(mask_L) ** 0.5)
            seen = ~mask_L.bool().view(side, side)
            x = image[None]
            for n, (down, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
                x = channels_first(down[1], down[0](x)) if n == 0 else down[1](channels_first(down[0], x))
                finer = x.shape[2] // side
                visible = seen.repeat_interleave(finer, 0).repeat_interleave(finer, 1)
                x = x * visible
                for block in stage:
                    x = self.sparse_block(block, x, visible)
            x = torch.where(seen, self.proj(x), self.mask_token)
            for block in self.decoder:
                x = self.run_block(block, x)
            rows.append(self.pred(x)[0].flatten(1).T)
        return torch.stack(rows)


class Hiera(nn.Module):
    """hiera/hiera.py, hiera_mae.py on maps: a mask unit is a block of places, and pooling takes the largest of 2×2.

    Units of 8×8 patches of 4 px. Attention inside of units in the first two stages; the block behind the end of a stage
    is wider, pools if it is among the first `pooled`, and still attends as that stage did.
    """

    def __init__(self, width=16, stages=(1, 2, 1, 1), pooled=2, decoder=32, size=64):
        super().__init__()
        self.stages, self.pooled, self.grid = stages, pooled, size // 4
        self.patch_embed = Named(proj=nn.Conv2d(3, width, 7, 4, 3))
        self.pos_embed = vector(1, self.grid**2, width)
        blocks, heads, inside = [], 1, width
        self.block_heads, self.kinds = [], []
        for n, depth in enumerate(stages):
            for k in range(depth):
                first = n > 0 and k == 0
                out, heads = (2 * inside, 2 * heads) if first else (inside, heads)
                blocks.append(self.block(inside, out))
                self.block_heads.append(heads)
                self.kinds.append((first and n <= pooled, (n - first) < 2))
                inside = out
        self.blocks = nn.ModuleList(blocks)
        self.encoder_norm = nn.LayerNorm(inside, eps=1e-6)
        widths = [width * 2**n for n in range(pooled)]
        fusions = [nn.Conv2d(each, inside, 2 ** (pooled - n), 2 ** (pooled - n)) for n, each in enumerate(widths)]
        self.multi_scale_fusion_heads = nn.ModuleList([*fusions, nn.Identity()])
        self.patch = 4 * 2**pooled
        self.decoder_embed = nn.Linear(inside, decoder)
        self.mask_token = vector(1, 1, decoder)
        self.decoder_pos_embed = vector(1, (size // self.patch) ** 2, decoder)
        self.decoder_blocks = nn.ModuleList([self.block(decoder, decoder) for _ in range(2)])
        self.decoder_norm = nn.LayerNorm(decoder, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder, self.patch**2 * 3)

    def block(self, inside, out):
        parts = {
            "norm1": nn.LayerNorm(inside, eps=1e-6),
            "attn": Named(qkv=nn.Linear(inside, 3 * out), proj=nn.Linear(out, out)),
            "norm2": nn.LayerNorm(out, eps=1e-6),
            "mlp": Named(fc1=nn.Linear(out, 4 * out), fc2=nn.Linear(4 * out, out)),
        }
        return Named(**parts, **({} if inside == out else {"proj": nn.Linear(inside, out)}))

    def encode(self, image, hidden):
        """The maps (U, C, n, n) of the visible units at the end of each stage, for one image.

        hidden: (units) of booleans, in raster order.
        """
        side = self.grid // 8
        pixels = (~hidden).view(side, side).repeat_interleave(32, 0).repeat_interleave(32, 1)
        x = self.patch_embed.proj(image[None] * pixels) + self.pos_embed.mT.unflatten(2, (self.grid, self.grid))
        x_UCMM = F.unfold(x, 8, stride=8)[0].T.unflatten(1, (-1, 8, 8))[~hidden]
        ends, last = [], [sum(self.stages[: n + 1]) - 1 for n in range(len(self.stages))]
        for n, block in enumerate(self.blocks):
            x_UCMM = self.run_block(block, x_UCMM, self.block_heads[n], *self.kinds[n])
            if n in last:
                ends.append(x_UCMM)
        return ends

    def run_block(self, block, x_UCMM, heads, pools, inside_units):
        """One block on the map of each unit; the attention is within a unit or among all of them."""
        units = len(x_UCMM)
        normed = channels_first(block.norm1, x_UCMM)

        def pool(x):
            return F.max_pool2d(x, 2) if pools else x

        def tokens(x):
            x_ULC = x.flatten(2).mT
            return x_ULC if inside_units else x_ULC.flatten(0, 1)[None]

        qkv = block.attn.qkv(normed.movedim(1, -1)).movedim(-1, 1)
        q, k, v = qkv.chunk(3, 1)
        q = pool(q)
        y = block.attn.proj(attend(tokens(q), tokens(k), tokens(v), heads))
        y_ULC = y if inside_units else y[0].unflatten(0, (units, -1))
        y_UCMM = y_ULC.mT.unflatten(2, q.shape[2:])
        short = pool(block.proj(normed.movedim(1, -1)).movedim(-1, 1)) if hasattr(block, "proj") else x_UCMM
        x = (short + y_UCMM).movedim(1, -1)
        return (x + run_mlp(block.mlp.fc1, block.mlp.fc2, block.norm2(x))).movedim(-1, 1)

    def feature_map(self, images):
        """The last map (B, C, h, w) of whole images, before any norm."""
        side = self.grid // 8
        maps = [self.encode(image, torch.zeros(side * side, dtype=torch.bool))[-1] for image in images]
        rows = [x.unflatten(0, (side, side)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2) for x in maps]
        return torch.stack(rows)

    def reconstruct(self, images, units_BM):
        """The prediction as pictures (B, 3, H, W), each patch in units of its own."""
        return torch.stack([self.one(image, units_M.bool()) for image, units_M in zip(images, units_BM, strict=True)])

    def one(self, image, hidden):
        ends = self.encode(image, hidden)
        fused = ends[-1] + sum(head(x) for head, x in zip(self.multi_scale_fusion_heads[:-1], ends, strict=False))
        z_UCMM = channels_first(self.encoder_norm, fused)
        x_UMMC = self.decoder_embed(z_UCMM.movedim(1, -1))
        side, small = self.grid // 8, x_UMMC.shape[1]
        full = self.mask_token[0, 0].expand(len(hidden), small, small, -1).clone()
        full[~hidden] = x_UMMC
        x_HWC = full.unflatten(0, (side, side)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        x = x_HWC.flatten(0, 1)[None] + self.decoder_pos_embed
        for block in self.decoder_blocks:
            q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, -1)
            x = x + block.attn.proj(attend(q, k, v, x.shape[-1] // 32))
            x = x + run_mlp(block.mlp.fc1, block.mlp.fc2, block.norm2(x))
        patches_LD = self.decoder_pred(self.decoder_norm(x))[0]
        # Their patches are images of three colours, one after the other.
        return F.fold(patches_LD.T[None], image.shape[1:], self.patch, stride=self.patch)[0]


def hugging_hiera(net):
    """The state of such a network as Hugging Face's HieraForPreTraining names it (models/hiera/modeling_hiera.py)."""
    places = [(stage, layer) for stage, depth in enumerate(net.stages) for layer in range(depth)]
    inside = {"norm1": "layernorm_before", "norm2": "layernorm_after"}
    outside = {
        "pos_embed": "hiera.embeddings.position_embeddings",
        "mask_token": "decoder.mask_token",
        "decoder_pos_embed": "decoder.decoder_position_embeddings",
    }
    beginnings = {
        "patch_embed.proj.": "hiera.embeddings.patch_embeddings.projection.",
        "decoder_embed.": "decoder.decoder_embeddings.",
        "decoder_blocks.": "decoder.decoder_block.layers.",
        "multi_scale": "multiscale_fusion.multi_scale",
        "decoder_": "decoder.decoder_",
    }
    made = {}
    for key, x in net.state_dict().items():
        name = ".".join(inside.get(part, part) for part in key.split("."))
        if found := re.match(r"blocks\.(\d+)\.(.*)", name):
            stage, layer = places[int(found[1])]
            name = f"hiera.encoder.stages.{stage}.layers.{layer}.{found[2]}"
        beginning = next((each for each in beginnings if name.startswith(each)), "")
        made[outside.get(key) or beginnings.get(beginning, "") + name.removeprefix(beginning)] = x
    return made
