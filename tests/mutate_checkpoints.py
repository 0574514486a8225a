"""Checkpoints of every format, damaged or hostile in one way each: what the reader makes of them.

    python -m tests.mutate_checkpoints --cases 1000 --seed 0

Each case is opened in a process of its own, as `a2mim inspect`, `--weights` with the model `auto`, and `a2mim
reconstruct` open it, with bounded time and memory. It ends well when the file loads and the model holds the file's own
numbers, or when it is refused in one sentence. Counted as well: whether anything that a file may not bring about was
heard (programs, connections, files written).
"""

import argparse
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from a2mim.checkpoints import read
from a2mim.checkpoints.describe import describe
from a2mim.methods.restore import load_method
from experiments.models import create_model
from tests.checkpoint_files import Content, official_files, sound_files

SECONDS = 30
MEMORY = 2**31

# --- the files


def written(name: str, content: Content, kind: str) -> bytes:
    """The file's bytes: torch's zip, its older pickle, or safetensors."""
    tensors, metadata, _ = content
    if kind == "safetensors":
        return save({key: x.contiguous().clone() for key, x in tensors.items()}, metadata=metadata or {"format": "pt"})
    file = io.BytesIO()
    whole: dict[str, Any] = {"model": tensors, "epoch": 3, "args": argparse.Namespace(lr=0.1, norm_pix_loss=True)}
    torch.save(whole, file, _use_new_zipfile_serialization=kind == "zip")
    return file.getvalue()


# --- what is done to them


ODD = [
    torch.tensor(1.0),
    torch.zeros(0),
    torch.zeros(3, 0),
    torch.zeros(1, 1, 1, 1, 1),
    torch.zeros(7),
    "text",
    None,
    3,
]
WORDS = [
    "\x1b[2J\x1b]0;owned\x07",
    "blocks.999999999.norm1.weight",
    "layers.9999999999999.x",
    "layer1.99999999.conv1.weight",
]
WORDS += [
    "blocks.0.attn.qkv.weight",
    "\u202egnp",
    "a" * 5000,
    "",
    ".",
    "blocks." + "9" * 5000 + ".x",
    "pos_embed",
    "x\ny",
]
STATED: list[Any] = [
    10**8,
    -1,
    0,
    1.5,
    float("nan"),
    1e999,
    True,
    None,
    [],
    [10**9],
    {},
    "x",
    "os:system",
    [[[]]],
    "../x",
]


def change_tensors(tensors: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One thing is done to the names, shapes or kinds of the tensors."""
    keys = list(tensors)
    key, changed = rng.choice(keys), dict(tensors)
    marks = [k for k in keys if "pos_embed" in k or "patch_embed" in k or k.endswith((".table", "conv1.weight"))]
    if marks and rng.random() < 0.5:
        key = rng.choice(marks)
    x = changed[key]
    kinds = [torch.int8, torch.bool, torch.complex64, torch.float16, torch.bfloat16, torch.float64, torch.int64]
    actions = {
        "odd": lambda: changed.update({key: rng.choice(ODD)}),
        "empty": lambda: changed.update({key: x[:0] if x.ndim else x}),
        "no width": lambda: changed.update({key: x.reshape(*x.shape[:-1], -1)[..., :0] if x.ndim else x}),
        "flat": lambda: changed.update({key: x.flatten()}),
        "more": lambda: changed.update({key: x[None]}),
        "turned": lambda: changed.update({key: x.mT if x.ndim > 1 else x}),
        "longer": lambda: changed.update({key: torch.cat([x, x]) if x.ndim else x}),
        "kind": lambda: changed.update({key: x.to(rng.choice(kinds))}),
        "sparse": lambda: changed.update({key: x.to_sparse()}),
        "nan": lambda: changed.update({key: torch.full_like(x, float("nan")) if x.is_floating_point() else x}),
        "expanded": lambda: changed.update({key: torch.zeros(1).expand(10**7, 10**5)}),
        "gone": lambda: [changed.pop(k) for k in rng.sample(keys, rng.randint(1, max(1, len(keys) // 2)))],
        "name": lambda: changed.update({rng.choice(WORDS): changed.pop(key)}),
        "extra": lambda: changed.update({rng.choice(WORDS): torch.zeros(rng.choice([1, 3, 100]))}),
        "prefix": lambda: changed.update({f"module.{k}": changed.pop(k) for k in keys}),
        "other": lambda: changed.update(rng.choice(list(FILES.values()))[0]),
    }
    actions[rng.choice(list(actions))]()
    return changed


def change_words(content: Content, rng: random.Random) -> Content:
    """What a file says about itself, or its configuration beside it, becomes something else."""
    tensors, metadata, config = content
    if config and rng.random() < 0.5:
        return tensors, metadata, {**config, rng.choice(list(config)): rng.choice(STATED)}
    stated = json.loads(metadata.get("architecture", "{}"))
    names = [*stated, "depth", "checkpoint_path", "pretrained", "window_size", "pretrained_cfg_overlay"]
    nested = "[" * 100_000
    texts = [
        nested,
        "{",
        "null",
        "3",
        '"resnet18"',
        "[1]",
        '{"": -1}',
        '{"": "x"}',
        "[[0], [0]]",
        '{"a": NaN}',
        nested + "]",
    ]
    if rng.random() < 0.5:
        said = json.dumps({**stated, rng.choice(names): rng.choice(STATED)})
        return tensors, {**metadata, "architecture": said}, config
    return tensors, {**metadata, rng.choice(["architecture", "norm_eps", "pixels"]): rng.choice(texts)}, config


def change_bytes(file: bytes, rng: random.Random) -> bytes:
    """Bits flipped, parts cut, doubled or blank, and what readers of archives may be led astray by."""
    at, more = rng.randrange(len(file)), rng.randbytes(rng.randint(1, 64))
    head = rng.randrange(min(400, len(file)))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)
    return rng.choice(
        [
            lambda: file[:at],
            lambda: file[at:],
            lambda: file[:at] + bytes([file[at] ^ 1 << rng.randrange(8)]) + file[at + 1 :],
            lambda: file[:head] + bytes([rng.randrange(256)]) + file[head + 1 :],
            lambda: file[:at] + more + file[at:],
            lambda: file[:at] + bytes(len(file) - at),
            lambda: file + b"PK\x05\x06",
            lambda: file + end,
            lambda: file + more,
            lambda: more + file,
            lambda: struct.pack("<Q", 2**63) + file[8:],
            lambda: b"",
            lambda: compressed(file),
            lambda: compressed(file) + b"PK\x05\x06",
        ]
    )()


def compressed(file: bytes) -> bytes:
    """The same archive with entries that are compressed, and one that unpacks to far more."""
    if not file.startswith(b"PK"):
        return file
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            more = bytes(50_000_000) if entry.filename.endswith("data.pkl") else b""
            new.writestr(entry.filename, old.read(entry) + more)
    return made.getvalue()


class Code:
    """What a pickle may say that runs code."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


FILES: dict[str, Content] = {}


def make_case(folder: Path, number: int, seed: int) -> tuple[Path, str]:
    """Write one case; returns the file and what it is."""
    rng = random.Random(f"{seed} {number}")
    name = rng.choice(list(FILES))
    content, kind = FILES[name], rng.choice(["zip", "zip", "pickle", "safetensors"])
    how = rng.choice(["tensors", "tensors", "words", "bytes", "code"])
    if how == "words":
        content, kind = change_words(content, rng), "safetensors"
    if how == "tensors":
        tensors = change_tensors(content[0], rng)
        content = (tensors, *content[1:])
        if not all(isinstance(x, torch.Tensor) and not x.is_sparse for x in tensors.values()) or "expanded" in how:
            kind = "zip"
        if kind == "safetensors" and any(x.numel() > 10**8 for x in tensors.values()):
            kind = "zip"
    if how == "code":
        content, kind = ({**content[0], "evil": Code()}, {}, {}), rng.choice(["zip", "pickle"])
    made = written(name, content, kind)
    if how == "bytes":
        made = change_bytes(made, rng)
    place = folder / f"case-{number}"
    place.mkdir(parents=True)
    file = place / f"{name}.{'safetensors' if kind == 'safetensors' else 'pth'}"
    file.write_bytes(made)
    if content[2]:
        (place / "config.json").write_text(json.dumps(content[2]))
    return file, f"{number}: {name}, {kind}, {how}"


# --- what comes of it


def sentence(error: Exception) -> str:
    """Empty for an error that is one sentence to show; else what is wrong with it."""
    text = str(error)
    if not isinstance(error, ValueError | OSError):
        return f"{type(error).__name__}: {text[:200]}"
    return "" if text and text.isprintable() and len(text) < 2000 else f"no sentence: {text[:200]!r}"


def outcome(file: Path) -> dict[str, Any]:
    """Open a file in three ways: {"loaded": whether, "wrong": what went wrong}."""
    wrong, loaded = [], False
    try:
        said = describe(read(file))
        json.dumps(said)
    except Exception as error:
        wrong.append(sentence(error))
    try:
        model, _ = create_model("auto", file)
        loaded = True
        found = read(file).tensors
        for key, x in model.state_dict().items():
            if key in found and found[key].shape == x.shape:
                same = torch.equal(x.nan_to_num(), found[key].to(x.dtype).nan_to_num())
                wrong.append("" if same else f"{key} was not loaded as it is in the file")
    except Exception as error:
        wrong.append(sentence(error))
    try:
        load_method(file)
    except Exception as error:
        wrong.append(sentence(error))
    return {"loaded": loaded, "wrong": [each for each in wrong if each]}


def in_a_process(file: Path) -> dict[str, Any]:
    """`outcome` in a fork of this process: also its CPU seconds, the memory that it took, and what was heard."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        heard: list[str] = []
        watched = {"os.system", "subprocess.Popen", "socket.connect", "os.exec"}
        sys.addaudithook(lambda event, _: heard.append(event) if event in watched else None)
        signal.alarm(SECONDS)
        used, before = pages(0), pages(1)
        resource.setrlimit(resource.RLIMIT_AS, (used + 2 * MEMORY, used + 2 * MEMORY))
        try:
            told = outcome(file) | {"heard": heard}
        except BaseException as error:
            told = {"loaded": False, "wrong": [repr(error)[:200]], "heard": heard}
        told["bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        os.write(sink, json.dumps(told).encode()[:60_000])
        os._exit(0)
    os.close(sink)
    with os.fdopen(source, "rb") as pipe:
        text = pipe.read()
    _, status, usage = os.wait4(child, 0)
    told = json.loads(text) if text else {"loaded": False, "wrong": [f"ended by signal {status & 127}"], "heard": []}
    return {"bytes": usage.ru_maxrss * 1024, **told, "cpu": usage.ru_utime + usage.ru_stime}


def pages(field: int) -> int:
    """Bytes of address space (0) or of memory (1) that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[field]) * resource.getpagesize()


def run(cases: int, seed: int, first: int = 0) -> dict[str, Any]:
    """Try so many cases: counts, the bad ones in words, and the largest time and memory."""
    torch.set_num_threads(1)
    FILES.update(FILES or sound_files())
    counts: Counter[str] = Counter()
    bad, slowest, largest = [], 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + cases):
            file, what = make_case(Path(folder), number, seed)
            told = in_a_process(file)
            slowest, largest = max(slowest, told["cpu"]), max(largest, told["bytes"])
            counts["executed"] += bool(told["heard"])
            ok = not told["wrong"] and not told["heard"]
            counts["loaded" if ok and told["loaded"] else "one sentence" if ok else "anything else"] += 1
            if not ok or told["bytes"] > MEMORY:
                bad.append(f"{what}: {'; '.join(told['wrong'] + told['heard'])[:400]} ({told['bytes']:,} bytes)")
            file.unlink()
    return {"counts": dict(counts), "bad": bad, "slowest": slowest, "largest": largest}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    given = parser.parse_args()
    FILES.update(sound_files() | official_files())
    found = run(given.cases, given.seed, given.first)
    print("\n".join(found["bad"]))
    counts = ", ".join(f"{number} {name}" for name, number in sorted(found["counts"].items()))
    print(
        f"{given.cases} cases: {counts}; at most {found['slowest']:.1f} s CPU and {found['largest'] / 1e6:.0f} MB each"
    )
    return 1 if found["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
