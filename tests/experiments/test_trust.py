"""What a file or a run's record can bring about: a model of timm with plain arguments, and nothing else.

The canary is an audit hook of the interpreter, which hears programs being started, connections and files opened for
writing, and an ear at the door through which factories are imported.
"""

import copy
import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from a2mim.checkpoints import CheckpointError, read
from a2mim.checkpoints.architecture import guess
from a2mim.checkpoints.describe import describe
from a2mim.checkpoints.stated import ARGUMENTS, NotPlainError, plain_network
from a2mim.plain import to_plain
from a2mim.settings import Data, Network
from experiments import models
from experiments.cli import main
from experiments.commands.pretrain import Settings
from experiments.models import create_model
from experiments.recipes import cifar10, cifar10_baselines, cifar10_masked, imagenet
from experiments.training.asked import resolved
from experiments.training.assembly import make_network
from experiments.training.reconstruction import open_network
from experiments.training.trust import check_architecture

CANARY = """
import os
os.system("true")

def net(**arguments):
    raise SystemExit("code of a file was run")
"""

HEARD: list[str] = []
LISTENING: list[bool] = []


def hear(event, args):
    if not LISTENING:
        return
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes or event in ("os.system", "subprocess.Popen", "socket.connect", "socket.getaddrinfo", "os.exec"):
        HEARD.append(f"{event} {args}")


sys.addaudithook(hear)


@contextmanager
def listening():
    HEARD.clear()
    LISTENING.append(True)
    door = models.find_factory
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "find_factory", lambda name: (HEARD.append(f"import {name}"), door(name))[1])
        try:
            yield HEARD
        finally:
            LISTENING.clear()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a module that only hostile files name, a hub-like folder, weights, and a run's folder."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "canary_of_the_tests.py").write_text(CANARY)
    model = timm.create_model("test_vit", num_classes=0)
    (folder / "hub").mkdir()
    (folder / "hub" / "config.json").write_text(json.dumps({"architecture": "test_vit", "num_classes": 0}))
    torch.save(model.state_dict(), folder / "hub" / "pytorch_model.bin")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


PLAIN = {"architecture": "test_vit", "num_classes": 0}
NAMES = st.one_of(
    st.sampled_from(
        [
            "canary_of_the_tests:net",
            "os:system",
            "torch.hub:load",
            "logging:basicConfig",
            "hf-hub:timm/resnet18.a1_in1k",
            "hf_hub:timm/resnet18.a1_in1k",
            "HF-HUB:timm/resnet18.a1_in1k",
            "local-dir:hub",
            "test_vit.nowhere",
            "test_vit/../hub",
            "test_vit\n",
            "test_vit",
            "",
            "auto",
        ]
    ),
    st.text(max_size=12).map(lambda text: f"canary_of_the_tests:{text}"),
    st.text(max_size=12),
    st.none() | st.integers() | st.lists(st.text(max_size=3), max_size=2),
)
VALUES = st.one_of(
    st.sampled_from(
        ["true", "hub/pytorch_model.bin", "canary_of_the_tests:net", {"url": "http://localhost:1/x"}, 1e999]
    ),
    st.integers(-3, 10**12),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.integers(-1, 10**9), max_size=12),
    st.text(max_size=8),
)
KEYS = st.one_of(
    st.sampled_from(
        [
            "checkpoint_path",
            "pretrained",
            "pretrained_cfg",
            "cache_dir",
            "command",
            "filename",
            "features_only",
            "scriptable",
            "norm_layer",
            "block_fn",
            *ARGUMENTS,
        ]
    ),
    st.text(max_size=8),
)
SAID = st.fixed_dictionaries({"architecture": NAMES}) | st.builds(dict, architecture=NAMES, **{}).flatmap(
    lambda said: st.dictionaries(KEYS, VALUES, max_size=3).map(lambda arguments: {**said, **arguments})
)
OFTEN = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def attempt(what):
    """Nothing is run, fetched or written: the call returns, or says why it does not."""
    with listening() as heard:
        try:
            what()
        except (ValueError, OSError) as error:
            assert str(error)
    assert heard == []


def test_the_canary_is_heard(place):
    """Named on the command line, the code is run: by design."""
    with listening() as heard, pytest.raises(ValueError, match="code of a file was run"):
        create_model("canary_of_the_tests:net", "random")
    assert "import canary_of_the_tests:net" in heard and any("os.system" in event for event in heard)
    sys.modules.pop("canary_of_the_tests")


STATE = {key: x.contiguous() for key, x in timm.create_model("test_vit", num_classes=0).state_dict().items()}


def weights(folder, said):
    save_file(STATE, folder / "net.safetensors", metadata={"format": "pt", "architecture": json.dumps(said)})
    return folder / "net.safetensors"


@OFTEN
@given(said=SAID)
def test_the_metadata_of_a_file_runs_nothing(place, said):
    file = weights(place, said)
    attempt(lambda: describe(read(file)))
    attempt(lambda: create_model("auto", file))
    attempt(lambda: make_network(Network(weights=str(file)), 0, 32, 0))


@OFTEN
@given(name=NAMES)
def test_what_a_pickle_says_of_its_model_runs_nothing(place, name):
    torch.save({"state_dict": {"x": torch.zeros(2)}, "arch": name, "args": {"model": name}}, place / "net.pth")
    attempt(lambda: describe(read(place / "net.pth")))
    attempt(lambda: create_model("auto", place / "net.pth"))


def record(place, **changes):
    """run.json of an unfinished pre-training, with changes."""
    ours = to_plain(Settings(network=Network("test_vit"), data=Data(data=str(place)), method="simmim"))
    run = {"command": "pretrain", "settings": ours, "finished": False, "architecture": PLAIN, **changes}
    (place / "run").mkdir(exist_ok=True)
    (place / "run" / "run.json").write_text(json.dumps(run))
    return place / "run"


@OFTEN
@given(said=SAID)
def test_the_architecture_of_a_record_runs_nothing(place, said):
    run = record(place, architecture=said)
    attempt(lambda: open_network(run, {}))


@OFTEN
@given(name=NAMES, arguments=st.dictionaries(KEYS, VALUES, max_size=2), data=st.sampled_from(["", "wds/x", "tfds/x"]))
def test_the_settings_of_a_record_run_nothing(place, name, arguments, data):
    ours = to_plain(Settings(network=Network("test_vit"), method="simmim", trust_factory=True))
    ours["network"] |= {"model": name, "model_args": [f"{key}={value}" for key, value in arguments.items()]}
    ours |= {"recipe": name, "set": [f"mask_at={name}"]}
    ours["data"] |= {"data": data, "data_root": "pipe:true"}
    run = record(place, settings=ours)

    def resume():
        goes_on = resolved(Settings(resume=str(run)), "pretrain")
        assert not goes_on.data.data
        make_network(goes_on.network, 0, 32, 0)

    attempt(resume)


@OFTEN
@given(VALUES, VALUES, NAMES)
def test_a_configuration_beside_a_hugging_face_file_runs_nothing(place, heads, eps, name):
    said = {
        "num_attention_heads": heads,
        "layer_norm_eps": eps,
        "architectures": [name],
        "auto_map": {"AutoModel": name},
    }
    folder = place / "beside"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": heads, "image_std": eps}))
    torch.save({"vit.embeddings.cls_token": torch.zeros(1, 1, 4)}, folder / "pytorch_model.bin")
    attempt(lambda: describe(read(folder / "pytorch_model.bin")))


# --- what may be said, and the ways out


def recipes():
    modules = (cifar10, cifar10_baselines, cifar10_masked, imagenet)
    named = {f"{m.__name__}:{n}": f for m in modules for n, f in vars(m).items() if not n.startswith("_")}
    made = {n: f for n, f in named.items() if callable(f) and getattr(f, "__module__", "") == n.partition(":")[0]}
    return {
        n: f for n, f in made.items() if getattr(f, "__annotations__", {}).get("return") in ("Settings", "Pretrain")
    }


def test_runs_of_every_recipe_go_on_without_words(tmp_path):
    assert len(recipes()) > 20
    for name, recipe in recipes().items():
        run = tmp_path / name
        run.mkdir()
        (run / "run.json").write_text(
            json.dumps({"command": "pretrain", "finished": False, "settings": to_plain(recipe())})
        )
        assert resolved(Settings(resume=str(run)), "pretrain").network == recipe().network, name


def test_a_plain_network_keeps_its_arguments():
    said = {"architecture": "resnetv2_18d", "layers": [2, 2], "channels": [64, 128], "num_classes": 0}
    assert plain_network(said, "it") == (
        "resnetv2_18d",
        {"layers": (2, 2), "channels": (64, 128), "num_classes": 0},
    )
    assert plain_network({"architecture": "resnet18.a1_in1k"}, "it") == ("resnet18.a1_in1k", {})


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"architecture": "os:system", "command": "true"}, "names the network 'os:system'"),
        ({"architecture": "hf-hub:timm/resnet18"}, "has to be fetched is named on the command line"),
        ({"architecture": "resnet18.nowhere"}, "only a model that timm has"),
        ({"architecture": ["resnet18"]}, "only a model that timm has"),
        ({"architecture": "resnet18", "checkpoint_path": "x"}, "the argument 'checkpoint_path' = 'x', which is no arg"),
        ({"architecture": "resnet18", "pretrained": True}, "which is no argument that may be given there"),
        ({"architecture": "test_vit", "depth": 100000000}, "'depth' = 100000000, which is nothing that"),
        ({"architecture": "test_vit", "drop_rate": float("nan")}, "'drop_rate' = nan"),
        ({"architecture": "test_vit", "num_heads": True}, "'num_heads' = True"),
        ({"architecture": "test_vit", "pretrained_cfg_overlay": {"url": "http://x"}}, "'pretrained_cfg_overlay'"),
        ({"architecture": "\x1b[2Jresnet18"}, r"'\\x1b\[2Jresnet18'"),
    ],
)
def test_what_no_file_may_say(said, told, tmp_path, capsys):
    with pytest.raises(NotPlainError, match=told) as refused:
        plain_network(said, "it")
    assert str(refused.value).isprintable()
    file = weights(tmp_path, said)
    with pytest.raises(CheckpointError, match="net.safetensors' .*" + told):
        guess(read(file))
    assert main(["inspect", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "model    unknown" in shown and "net.safetensors'" in shown and "\x1b" not in shown


def test_a_factory_has_to_be_named_again(place, capsys):
    ours = to_plain(Settings(network=Network("canary_of_the_tests:net", ("depth=3",)), trust_factory=True))
    run = record(place, settings=ours, architecture={"architecture": "canary_of_the_tests:net", "depth": 3})
    with pytest.raises(ValueError, match=r"run.json names the network 'canary_of_the_tests:net'.*--trust-factory"):
        resolved(Settings(resume=str(run)), "pretrain")
    again = resolved(Settings(resume=str(run), network=Network("canary_of_the_tests:net")), "pretrain")
    assert again.network.model == "canary_of_the_tests:net" and not again.trust_factory
    with pytest.raises(ValueError, match="goes on with its own settings only"):
        resolved(Settings(resume=str(run), network=Network("os:system")), "pretrain")
    capsys.readouterr()
    assert resolved(Settings(resume=str(run), trust_factory=True), "pretrain").network == again.network
    assert "runs the code of 'canary_of_the_tests:net' with ('depth=3',)" in capsys.readouterr().err
    said = json.loads((run / "run.json").read_text())["architecture"]
    with pytest.raises(ValueError, match="--trust-factory"):
        check_architecture(copy.deepcopy(said), Path("run.json"), False)
    assert check_architecture(said, Path("run.json"), True) == ("canary_of_the_tests:net", {"depth": 3})
    assert "runs the code of 'canary_of_the_tests:net'" in capsys.readouterr().err


def test_arguments_of_a_factory_that_were_not_typed_stay_plain(place):
    ours = to_plain(Settings(network=Network("torch.hub:load", ("repo_or_dir=evil", "source=local"))))
    run = record(place, settings=ours)
    with pytest.raises(ValueError, match="the argument 'repo_or_dir' = 'evil'"):
        resolved(Settings(resume=str(run), network=Network("torch.hub:load")), "pretrain")
    typed = Network("torch.hub:load", ("repo_or_dir=evil", "source=local"))
    assert resolved(Settings(resume=str(run), network=typed), "pretrain").network == typed


@pytest.mark.parametrize("name", ["wds/x", "hfds/somebody/pictures", "tfds/x", "torch/imagenet"])
def test_a_data_set_that_is_no_folder_has_to_be_typed_again(name, place):
    data = Data(data=name, data_root="pipe:true", split="shard-{0..3}")
    run = record(place, settings=to_plain(Settings(network=Network("test_vit"), data=data)))
    with pytest.raises(ValueError, match=rf"--data '{name}' --data-root 'pipe:true' --split") as refused:
        resolved(Settings(resume=str(run)), "pretrain")
    assert "type its words again" in str(refused.value)
    with pytest.raises(ValueError, match="--data-root 'pipe:true'"):
        resolved(Settings(resume=str(run), data=replace(Data(), data=name)), "pretrain")
    assert resolved(Settings(resume=str(run), data=data), "pretrain").data == data


def test_a_data_set_that_torchvision_verifies_goes_on(place):
    data = Data(data="torch/cifar10", data_root="data")
    run = record(place, settings=to_plain(Settings(network=Network("test_vit"), data=data)))
    assert resolved(Settings(resume=str(run)), "pretrain").data == data
