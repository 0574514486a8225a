"""Formats that docs/checkpoints.md calls unread: each ends in a sentence, whatever it is taken for."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from experiments import cli
from tests.a2mim.checkpoints.layouts import HFViT, Named, randomise

SMALL_VIT = {"img_size": 32, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}
SMALL_SWIN = {"img_size": 64, "embed_dim": 24, "depths": (1, 1), "num_heads": (3, 6), "window_size": 4}


def moco_with_a_convolutional_stem(folder):
    """github.com/facebookresearch/moco-v3, vits.py: ConvStem in place of patch_embed."""
    vit = timm.create_model("vit_small_patch16_224", num_classes=0, **SMALL_VIT).state_dict()
    stem = []
    for channels, width in ((3, 6), (6, 12), (12, 24), (24, 48)):
        stem += [nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    vit = {key: x for key, x in vit.items() if not key.startswith("patch_embed.")}
    vit |= nn.Sequential(*stem, nn.Conv2d(48, 48, 1)).state_dict(prefix="patch_embed.proj.")
    head = nn.Sequential(nn.Linear(48, 8, bias=False), nn.BatchNorm1d(8)).state_dict(prefix="head.")
    both = {f"module.{name}_encoder.{key}": x for name in ("base", "momentum") for key, x in {**vit, **head}.items()}
    torch.save({"epoch": 300, "arch": "vit_conv_small", "state_dict": both}, folder / "vit-s-conv.pth.tar")
    return folder / "vit-s-conv.pth.tar", "vit_small_patch16_224"


def sparse_convnext_v2(folder):
    """github.com/facebookresearch/ConvNeXt-V2, models/fcmae.py and convnextv2_sparse.py: MinkowskiEngine's names."""
    made = {"encoder.downsample_layers.0.0.weight": torch.randn(8, 3, 4, 4)}
    for i, (depth, width) in enumerate(((1, 8), (1, 16), (1, 32), (1, 64))):
        if i:
            made[f"encoder.downsample_layers.{i}.0.ln.weight"] = torch.ones(width // 2)
            made[f"encoder.downsample_layers.{i}.1.kernel"] = torch.randn(4, width // 2, width)
        for j in range(depth):
            block = f"encoder.stages.{i}.{j}"
            made |= {
                f"{block}.dwconv.kernel": torch.randn(49, width),
                f"{block}.norm.ln.weight": torch.ones(width),
                f"{block}.pwconv1.linear.weight": torch.randn(4 * width, width),
                f"{block}.grn.gamma": torch.zeros(1, 4 * width),
                f"{block}.pwconv2.linear.weight": torch.randn(width, 4 * width),
            }
    made |= {"mask_token": torch.zeros(1, 32, 1, 1), "proj.weight": torch.randn(32, 64, 1, 1)}
    made |= {"decoder.0.dwconv.weight": torch.randn(32, 1, 7, 7), "pred.weight": torch.randn(3072, 32, 1, 1)}
    torch.save({"model": made, "epoch": 800}, folder / "convnextv2_atto_1k_224_fcmae.pt")
    return folder / "convnextv2_atto_1k_224_fcmae.pt", "convnextv2_atto"


def dense_convnext_v2(folder):
    """The same repository's dense names, which its fine-tuning writes."""
    made = {"head.weight": torch.randn(9, 64), "head.bias": torch.zeros(9)}
    for i, width in enumerate((8, 16, 32, 64)):
        size, channels = (4, 3) if i == 0 else (2, width // 2)
        made[f"downsample_layers.{i}.{int(i > 0)}.weight"] = torch.randn(width, channels, size, size)
        made |= {
            f"stages.{i}.0.dwconv.weight": torch.randn(width, 1, 7, 7),
            f"stages.{i}.0.norm.weight": torch.ones(width),
            f"stages.{i}.0.pwconv1.weight": torch.randn(4 * width, width),
            f"stages.{i}.0.grn.gamma": torch.zeros(1, 1, 1, 4 * width),
            f"stages.{i}.0.pwconv2.weight": torch.randn(width, 4 * width),
        }
    torch.save({"model": made}, folder / "convnextv2_atto_1k_224_ema.pt")
    return folder / "convnextv2_atto_1k_224_ema.pt", "convnextv2_atto"


def swin_v2_state():
    """github.com/microsoft/Swin-Transformer, swin_transformer_v2.py: downsampling ends a stage, buffers are kept."""
    made = timm.create_model("swinv2_tiny_window8_256", num_classes=0, **SMALL_SWIN).state_dict()
    made = {key.replace("layers.1.downsample", "layers.0.downsample"): x for key, x in made.items()}
    for block in ("layers.0.blocks.0", "layers.1.blocks.0"):
        made[f"{block}.attn.relative_coords_table"] = torch.zeros(1, 7, 7, 2)
        made[f"{block}.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    return made


def swin_v2(folder):
    head = {"head.weight": torch.randn(9, 48), "head.bias": torch.zeros(9)}
    torch.save({"model": {**swin_v2_state(), **head}}, folder / "swinv2_tiny_patch4_window8_256.pth")
    return folder / "swinv2_tiny_patch4_window8_256.pth", "swinv2_tiny_window8_256"


def simmim_swin_v2(folder):
    made = {f"encoder.{key}": x for key, x in swin_v2_state().items()}
    made |= {"encoder.mask_token": torch.zeros(1, 1, 24), "decoder.0.weight": torch.randn(192, 48, 1, 1)}
    torch.save({"model": made, "epoch": 1}, folder / "simmim_swinv2.pth")
    return folder / "simmim_swinv2.pth", "swinv2_tiny_window8_256"


def shards(folder):
    """transformers' save_pretrained: parts of a network, and an index that says which tensor lies in which."""
    state = randomise(Named(vit=HFViT(), classifier=nn.Linear(128, 9))).float().state_dict()
    names = list(state)
    # the first part ends with a whole block, and so looks like a network of fewer blocks
    cut = next(n for n, name in enumerate(names) if "encoder.layer.1." in name)
    files = {1: names[:cut], 2: names[cut:]}
    for number, keys in files.items():
        part = {key: state[key].contiguous() for key in keys}
        save_file(part, folder / f"model-{number:05d}-of-00002.safetensors", metadata={"format": "pt"})
    places = {key: f"model-{number:05d}-of-00002.safetensors" for number, keys in files.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def first_shard(folder):
    shards(folder)
    return folder / "model-00001-of-00002.safetensors", "vit_base_patch16_224"


def index_of_shards(folder):
    shards(folder)
    return folder / "model.safetensors.index.json", "vit_base_patch16_224"


def sharded_pickle(folder):
    torch.save({"vit.embeddings.cls_token": torch.zeros(1, 1, 128)}, folder / "pytorch_model-00002-of-00002.bin")
    return folder / "pytorch_model-00002-of-00002.bin", "vit_base_patch16_224"


def tensorflow(folder):
    (folder / "tf_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    return folder / "tf_model.h5", "vit_base_patch16_224"


def flax(folder):
    (folder / "flax_model.msgpack").write_bytes(b"\x82\xa3vit\x81\xaaembeddings\x80" + bytes(50))
    return folder / "flax_model.msgpack", "vit_base_patch16_224"


UNKNOWN, PARTS = "no known model fits", "is a part of a network or the list of its parts"
FILES = [
    (moco_with_a_convolutional_stem, UNKNOWN, "unexpected keys (patch_embed.proj.0.weight"),
    (sparse_convnext_v2, UNKNOWN, "stages.0.0.dwconv.kernel"),
    (dense_convnext_v2, "unexpected key", "grn.gamma"),
    (swin_v2, UNKNOWN, "relative_coords_table"),
    (simmim_swin_v2, UNKNOWN, "unexpected keys (encoder."),
    (first_shard, PARTS, PARTS),
    (index_of_shards, PARTS, PARTS),
    (sharded_pickle, PARTS, PARTS),
    (tensorflow, "cannot be read as a torch file", "cannot be read as a torch file"),
    (flax, "cannot be read as a torch file", "cannot be read as a torch file"),
]


@pytest.mark.parametrize(("make", "unnamed", "as_model"), FILES, ids=lambda each: getattr(each, "__name__", ""))
def test_an_unread_format_ends_in_a_sentence(make, unnamed, as_model, tmp_path, capsys):
    file, name = make(tmp_path)
    photo = tmp_path / "photo.png"
    commands = {
        ("convert", str(file), "--out", str(tmp_path / "new.safetensors")): unnamed,
        ("convert", str(file), "--out", str(tmp_path / "new.safetensors"), "--model", name): as_model,
        ("profile", "auto", "--weights", str(file), "--data", str(photo), "--out", str(tmp_path / "run")): "",
        ("profile", name, "--weights", str(file), "--data", str(photo), "--out", str(tmp_path / "run")): "",
    }
    before = sorted(tmp_path.iterdir())
    for words, said in commands.items():
        assert cli.main(list(words)) == 2, words
        (sentence,) = capsys.readouterr().err.strip().splitlines()
        assert said in sentence and str(file) in sentence and "Traceback" not in sentence, words
    assert sorted(tmp_path.iterdir()) == before
