"""TorchScript archives, as OpenAI publishes CLIP: read as tensors by name, and nothing of their code is run."""

import os
import pickle
import zipfile

import pytest
import torch
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import nn

from a2mim.checkpoints import CheckpointError, load_into, read
from a2mim.checkpoints.architecture import guess
from a2mim.checkpoints.script import read_script
from tests.a2mim.checkpoints.layouts import Named, randomise, vector
from tests.a2mim.checkpoints.newer_layouts import CLIPResNet, CLIPTower
from tests.a2mim.checkpoints.test_sources import IMAGES, reread, same

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")


class CLIP(nn.Module):
    """clip/model.py: both towers by their official names, and the three numbers that its archives keep."""

    def __init__(self, visual):
        super().__init__()
        self.visual = visual
        self.transformer = Named(resblocks=nn.ModuleList([nn.Linear(8, 8)]))
        self.token_embedding, self.ln_final = nn.Embedding(5, 8), nn.LayerNorm(8)
        self.positional_embedding, self.text_projection, self.logit_scale = vector(6, 8), vector(8, 4), vector(1)
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(7))

    def forward(self, images):
        return self.visual.features(images, True)


def save_script(net, path, images=IMAGES):
    torch.jit.save(torch.jit.trace(net, images, check_trace=False), str(path))


def test_openais_clip(tmp_path):
    net = randomise(CLIP(CLIPTower()))
    save_script(net, tmp_path / "ViT-B-32.pt")
    model, report, checkpoint = reread(tmp_path / "ViT-B-32.pt")
    assert checkpoint.source == "openai's clip" and checkpoint.pixels[0][0] == pytest.approx(0.48145466)
    same(model(IMAGES), net.visual.features(IMAGES, quick=True))
    assert report.loaded + sum(map(len, report.dropped.values())) == len(net.state_dict())


def test_the_names_are_those_of_the_state_dict(tmp_path):
    net = randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 2, 1))))
    save_script(net, tmp_path / "net.pt")
    torch.jit.save(torch.jit.script(net), str(tmp_path / "scripted.pt"))
    for file in ("net.pt", "scripted.pt"):
        found = read_script(tmp_path / file)
        assert found.keys() == net.state_dict().keys()
        for key, x in net.state_dict().items():
            assert torch.equal(found[key], x)


def test_clips_resnet(tmp_path):
    """A small one of timm's byobnet, which makes resnet50_clip too, against the layout's own forward pass."""
    net = randomise(CLIP(CLIPResNet()))
    images = torch.nn.functional.interpolate(IMAGES, scale_factor=2)
    save_script(net, tmp_path / "RN50.pt", images)
    checkpoint = read(tmp_path / "RN50.pt")
    blocks = [ByoBlockCfg("bottle", d=1, c=c, s=s, br=0.25) for c, s in ((64, 1), (128, 2), (256, 2), (512, 2))]
    small = ByoModelCfg(
        tuple(blocks),
        stem_chs=(8, 8, 16),
        stem_type="",
        stem_pool="avg2",
        downsample="avg",
        aa_layer="avg",
        head_type="attn_abs",
    )
    model = ByobNet(small, num_classes=0, img_size=64).double().eval()
    assert load_into(model, checkpoint).complete
    same(model(images), net.visual.pooled(images))


@pytest.mark.parametrize(
    ("size", "layers", "width", "side"), [("50", (3, 4, 6, 3), 64, 7), ("50x4", (4, 6, 10, 6), 80, 9)]
)
def test_which_of_clips_resnets(tmp_path, size, layers, width, side):
    with torch.device("meta"):
        shapes = CLIPResNet(layers, width, side).state_dict()
    # stored in one byte each, for what tells the network is its shapes
    tiny = {f"visual.{key}": torch.zeros(x.shape, dtype=torch.float8_e4m3fn) for key, x in shapes.items()}
    torch.save(tiny, tmp_path / "net.pt")
    assert guess(read(tmp_path / "net.pt")).name == f"resnet{size}_clip"


# --- hostile archives


def rewritten(path, into, change):
    """An archive with other entries: change(name inside, bytes) → the new bytes."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(into, "w") as new:
        for entry in old.infolist():
            inside = entry.filename.partition("/")[2]
            new.writestr(entry.filename, change(inside, old.read(entry)), entry.compress_type)
    return into


@pytest.fixture
def script(tmp_path):
    save_script(randomise(nn.Conv2d(3, 4, 3)), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def test_code_is_neither_run_nor_read(script, tmp_path):
    """Programs that are no programs, and would be larger than any memory: the weights are read all the same."""
    evil = "__import__('os').mkdir('ran')\n"

    def change(name, content):
        return (evil * 100_000).encode() if name.startswith("code/") else content

    torch.testing.assert_close(
        read(rewritten(script, tmp_path / "evil.pt", change)).tensors, read(script).tensors, rtol=0, atol=0
    )
    assert not (tmp_path / "ran").exists()


class Runs:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", ["os system", "__torch__x M", "__torch__ M\nos system", "builtins eval"])
def test_classes_of_other_modules_are_refused(script, tmp_path, name):
    named = f"c{name.replace(' ', chr(10))}\n".encode()

    def change(inside, content):
        if inside != "data.pkl":
            return content
        first = content.index(b"c__torch__")
        return content[:first] + named + content[content.index(b"\n", content.index(b"\n", first) + 1) + 1 :]

    with pytest.raises(CheckpointError, match=r"could run code|damaged"):
        read(rewritten(script, tmp_path / "evil.pt", change))


def test_a_call_in_place_of_the_module_is_refused(script, tmp_path):
    attack = pickle.dumps(Runs(str(tmp_path / "ran")), 2)
    with pytest.raises(CheckpointError, match=r"holds (posix|nt)\.mkdir, .* could run code"):
        read(rewritten(script, tmp_path / "evil.pt", lambda name, x: attack if name == "data.pkl" else x))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("compressed", ["data.pkl", "data/0", "constants.pkl"])
def test_only_code_may_be_compressed(script, tmp_path, compressed):
    with zipfile.ZipFile(script) as old, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as new:
        for entry in old.infolist():
            packed = entry.filename.endswith(compressed)
            kind = zipfile.ZIP_DEFLATED if packed else entry.compress_type
            new.writestr(entry.filename, bytes(3_000_000) if packed else old.read(entry), kind)
    with pytest.raises(CheckpointError, match="would unpack to 3,0"):
        read(tmp_path / "bomb.pt")


def test_an_archive_that_holds_no_module_is_refused(script, tmp_path):
    empty = pickle.dumps({"a": 1}, 2)
    with pytest.raises(CheckpointError, match="TorchScript program without a network's weights"):
        read(rewritten(script, tmp_path / "evil.pt", lambda name, x: empty if name == "data.pkl" else x))
