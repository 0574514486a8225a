"""Small networks of every format that the reader knows: what is damaged by `mutate_checkpoints`."""

import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from a2mim.checkpoints.contents import read_file, unwrap
from tests.a2mim.checkpoints import layouts, newer_layouts
from tests.a2mim.checkpoints.layouts import Named
from tests.a2mim.checkpoints.resnets import resnet

Content = tuple[dict[str, Any], dict[str, str], dict[str, Any]]
"""Tensors, metadata of safetensors, and the configuration beside the file."""


def sound_files() -> dict[str, Content]:
    """One small network of each format: its tensors as its project names them."""
    ours = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=64, depth=2, num_heads=2, num_classes=3)
    stated = {"architecture": "vit_tiny_patch16_224", "img_size": 32, "embed_dim": 64, "depth": 2, "num_heads": 2}
    metadata = {"format": "pt", "architecture": json.dumps(stated | {"num_classes": 3})}
    metadata |= {"norm_eps": '{"": 1e-06}', "pixels": "[[0.5, 0.5, 0.5], [0.2, 0.2, 0.2]]"}
    resnet = timm.create_model("resnet18", num_classes=3, channels=(8, 16, 24, 32), layers=(1, 1, 1, 1))
    hf = {"num_attention_heads": 2, "layer_norm_eps": 1e-12}
    named: dict[str, nn.Module] = {
        "mae": layouts.MAE(),
        "dino": Named(backbone=layouts.ViT(), head=layouts.DINOHead(128)),
        "simmim": layouts.SimMIM(layouts.Beit(shared=True, mean=False, classes=0), 32),
        "beit": layouts.Beit(),
        "swin": layouts.Swin(),
        "convnext": layouts.ConvNeXt(),
        "spark": layouts.SparK(layouts.ConvNeXt(classes=0, last=""), (20, 16, 12, 8), nn.LayerNorm),
        "openmixup": Named(backbone=layouts.MMViT(), head=Named(fc=nn.Linear(128, 9))),
        "hugging face": Named(vit=layouts.HFViT(), classifier=nn.Linear(128, 9)),
        "resnet18-cut": resnet,
    }
    files: dict[str, Content] = {name: (net.float().state_dict(), {}, {}) for name, net in named.items()}
    files["hugging face"] = (files["hugging face"][0], {}, hf)
    return files | newer_files() | {"ours": (ours.state_dict(), metadata, {})}


def newer_files() -> dict[str, Content]:
    """Those of the newer formats, as their projects name them."""
    second = newer_layouts.torchvision_swin(True).float()
    moco = Named(encoder_q=resnet(), encoder_k=resnet(), queue=nn.Linear(3, 3))
    solo = Named(backbone=resnet(), projector=nn.Linear(4, 4), classifier=nn.Linear(256, 3), momentum_backbone=resnet())
    named: dict[str, nn.Module] = {
        "dinov2": newer_layouts.DINOv2(registers=2),
        "dinov2 giant": newer_layouts.DINOv2(gated=True),
        "clip": Named(visual=newer_layouts.CLIPTower()),
        "convnext v2": newer_layouts.ConvNeXtV2(),
        "mae, hiera": newer_layouts.Hiera(),
        "conv stem": newer_layouts.ConvStemViT(dim=128),
        "parallel": newer_layouts.Parallel(),
        "torchvision swin": newer_layouts.torchvision_swin(False),
        "mobilenet": torchvision.models.mobilenet_v3_small(num_classes=3, width_mult=1.0),
        "moco": moco,
        "solo-learn": solo,
        "lightly": Named(backbone=nn.Sequential(*list(resnet().children())[:-1]), projection_head=nn.Linear(4, 4)),
        "barlow twins": Named(backbone=resnet(), projector=nn.Linear(4, 4), bn=nn.BatchNorm1d(4)),
    }
    files: dict[str, Content] = {name: (net.float().state_dict(), {}, {}) for name, net in named.items()}
    files["swin v2"] = (newer_layouts.original_swin_v2(second.state_dict()), {}, {})
    files["torchvision swin v2"] = (second.state_dict(), {}, {})
    files["fcmae"] = (newer_layouts.FCMAE().float().official(), {}, {})
    files["hugging face swin v2"] = (
        newer_layouts.hugging_swin_v2(second.state_dict()),
        {},
        {"model_type": "swinv2", "window_size": 4, "image_size": 32, "layer_norm_eps": 1e-5},
    )
    files["averaged"] = (
        {"n_averaged": torch.tensor(2), **{f"module.{k}": x for k, x in solo.state_dict().items()}},
        {},
        {},
    )
    return files


OFFICIAL = Path(__file__).resolve().parents[1] / ".." / "shared/data/official-layouts.tar"


def official_files() -> dict[str, Content]:
    """What official code wrote, where those files are there: each in one file, with the configuration beside it."""
    if not OFFICIAL.exists():
        return {}
    files: dict[str, Content] = {}
    with tempfile.TemporaryDirectory() as folder, tarfile.open(OFFICIAL) as archive:
        archive.extractall(folder, filter="data")
        for case in sorted(Path(folder).iterdir()):
            file = case / json.loads((case / "meta.json").read_text())["file"]
            tensors = unwrap(read_file(file)[0], file)[1]
            config = json.loads((case / "config.json").read_text()) if (case / "config.json").exists() else {}
            plain = {key: value for key, value in config.items() if key not in ("id2label", "label2id")}
            files[case.name] = ({key: x.clone() for key, x in tensors.items()}, {}, plain)
    return files
