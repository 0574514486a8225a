"""Values, baselines, players and pairs of one's own, known by name and contents.

A function given where a name is wanted is called `module:function@digest`; a label map and a list of pairs are called
by a digest of their numbers. What was given is kept under that name, beside the package's own names (`VALUES`,
`BASELINES`), which stay as they are. The name goes into every record, so that a run is not gone on with, nor
compared, after what it names has changed. Nothing is imported or read from a record: who goes on gives it again. (The
digest of a function is of its own source, its defaults and what it takes from around it; what it reads or calls
elsewhere is not seen.)
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from interactions.baselines import BASELINES, Normalisation
from interactions.estimators.sample import as_pairs, check_pairs
from interactions.fingerprint import tensor_bytes
from interactions.grid import PatchGrid, ratios_of
from interactions.independence import close
from interactions.segments import Segments
from interactions.values import VALUES

KNOWN: Mapping[str, Mapping[str, Any]] = {"value": VALUES, "baseline": BASELINES}
# Given so far. A name holds the digest of what it names and of what that holds; it never comes to mean something else.
FUNCTIONS: dict[str, dict[str, Any]] = {kind: {} for kind in KNOWN}
STEADY = 1e-6
"""By how much values of one's own may differ that are to be the same, as a share."""
SEGMENTS: dict[str, Segments] = {}
PAIRS: dict[str, Tensor] = {}


def named(kind: str, given: str | Callable[..., Any]) -> str:
    """The name of a value or baseline; a function is found by it from now on (`function_of`).

    Args:
        kind: value or baseline.

    Raises:
        ValueError: what is no function, or one whose source is nowhere, so that a change would not be seen.
    """
    if isinstance(given, str):
        return given
    if not inspect.isfunction(given):
        raise ValueError(f"a {kind} is a name or a function, not {given!r}: write a function that calls it")
    try:
        told = inspect.getsource(given).encode() + captured(given)
    except (OSError, TypeError) as error:
        raise ValueError(f"the source of the {kind} {given.__qualname__} is not there: keep it in a file") from error
    name = f"{given.__module__}:{given.__qualname__}@{digest_of(told)}"
    there = FUNCTIONS[kind].get(name)
    if there is not None and code_of(there) != code_of(given):
        raise ValueError(
            f"another {kind} is called {name}, too, as two on one line are: write each as a function of its own name"
        )
    FUNCTIONS[kind][name] = given
    return name


def code_of(function: Callable[..., Any]) -> tuple[Any, ...]:
    """What a function does, wherever it stands: of functions within it, no more than that there are some."""
    code = function.__code__
    return code.co_code, tuple(const for const in code.co_consts if not inspect.iscode(const)), code.co_names


def captured(function: Callable[..., Any]) -> bytes:
    """What a function holds besides its source: defaults, and what it takes from around it; empty for one without.

    Raises:
        ValueError: something of which no digest can tell whether it is the same.
    """
    around = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    held = {name: cell.cell_contents for name, cell in around.items()}
    held |= {str(number): default for number, default in enumerate(function.__defaults__ or ())}
    held |= function.__kwdefaults__ or {}
    return b"".join(name.encode() + b"=" + plain_bytes(name, content) + b";" for name, content in held.items())


def plain_bytes(name: str, content: Any) -> bytes:
    """Of a number, a word, a tensor, a function or a sequence of these. Raises ValueError for anything else."""
    if content is None or isinstance(content, bool | int | float | str | bytes):
        return repr(content).encode()
    if isinstance(content, Tensor):
        return digest_of(tensor_bytes(content)).encode()
    if isinstance(content, tuple | list):
        return b"(" + b",".join(plain_bytes(name, each) for each in content) + b")"
    if inspect.isfunction(content):
        return digest_of(inspect.getsource(content).encode() + captured(content)).encode()
    raise ValueError(
        f"a value or baseline holds a {type(content).__name__} ({name}), of which no record could tell whether it is "
        "the same: hold numbers, words, tensors or functions, or read it from the module"
    )


def function_of(kind: str, name: str) -> Callable[..., Tensor]:
    """The value or baseline of a name that is known: the package's, or one's own that `named` gave. Raises KeyError."""
    return FUNCTIONS[kind][name] if name in FUNCTIONS[kind] else KNOWN[kind][name]


def values_of(name: str, outputs_BK: Tensor, reference_B: Tensor) -> Tensor:
    """v of each row by the value of that name, float64 B. Raises ValueError for one of one's own that gives no B."""
    values_B = function_of("value", name)(outputs_BK, reference_B)
    if not isinstance(values_B, Tensor) or values_B.shape != outputs_BK.shape[:1]:
        raise ValueError(
            f"the value {name!r} gave {shape_of(values_B)} for {len(outputs_BK)} coalitions: give one number for each"
        )
    return values_B.double()


def refuse_mixing(name: str, look: Callable[[], Tensor], reference_1: Tensor) -> None:
    """Nothing, where a value of one's own makes of each row of outputs, which `look` gives, a number of that row alone.

    Raises:
        ValueError: it draws at random, or looks at the other rows.
    """
    if name not in FUNCTIONS["value"]:
        return
    outputs_BK = look()
    again_B, values_B = (values_of(name, outputs_BK, reference_1.expand(len(outputs_BK))) for _ in range(2))
    alone_B = torch.cat([values_of(name, output_K[None], reference_1) for output_K in outputs_BK])
    if not close(values_B[:, None], again_B[:, None], STEADY):
        raise ValueError(f"the value {name!r} of the same outputs is another one each time: it may draw nothing")
    if not close(values_B[:, None], alone_B[:, None], STEADY):
        raise ValueError(
            f"the value {name!r} of a coalition depends on the others of its batch: take each row by itself (dim=1)"
        )


def absent_of(name: str, images_ICHW: Tensor, normalisation: Normalisation) -> Tensor:
    """What absent cells show by the baseline of that name, as large as the images. Raises ValueError for one of one's
    own that gives what cannot be."""
    baseline = function_of("baseline", name)
    absent = baseline(images_ICHW, normalisation)
    try:
        absent_ICHW = absent.expand_as(images_ICHW)
        if name in FUNCTIONS["baseline"]:
            refuse_unsteady(
                name, absent_ICHW, baseline(images_ICHW, normalisation), baseline(images_ICHW[:1], normalisation)
            )
        return absent_ICHW
    except (RuntimeError, AttributeError) as error:
        raise ValueError(
            f"the baseline {name!r} gave {shape_of(absent)} for images {shape_of(images_ICHW)}: give a picture for each"
        ) from error


def refuse_unsteady(name: str, absent_ICHW: Tensor, again: Tensor, alone: Tensor) -> None:
    """Raise ValueError for a baseline that shows another picture the second time, or beside other images: a run that
    goes on, or that several processes share, would be of two games."""
    if not torch.equal(absent_ICHW, again.expand_as(absent_ICHW)):
        raise ValueError(
            f"the baseline {name!r} gives another picture each time: draw with a generator of its own seed"
        )
    if not torch.allclose(absent_ICHW[:1], alone.expand_as(absent_ICHW[:1]), rtol=1e-4, atol=1e-5):
        raise ValueError(f"the baseline {name!r} of an image depends on the others beside it: make each of itself")


def shape_of(given: Any) -> str:
    """In words."""
    if not isinstance(given, Tensor):
        return type(given).__name__
    return "×".join(map(str, given.shape)) or "a single number"


def named_grid(given: PatchGrid | Segments | int | str) -> int | str:
    """A grid as a setting: the cells along its side, or the name of a label map, which is known from now on."""
    if isinstance(given, PatchGrid):
        return given.side
    if not isinstance(given, Segments):
        return given
    size = "×".join(map(str, given.region_HW.shape))
    name = f"{given.n_players} regions of {size} px@{digest_of(tensor_bytes(given.region_HW))}"
    SEGMENTS[name] = given
    return name


def named_pairs(given: str | ArrayLike | Tensor) -> str:
    """Pairs as a setting: a name, or that of a list P×2, which is known from now on. What counts is which pairs are in
    it, not their order.

    Raises:
        ValueError: what is no list of pairs.
    """
    if isinstance(given, str):
        return given
    pairs_P2 = as_pairs(given).sort(1).values.unique(dim=0)
    name = f"{len(pairs_P2)} listed@{digest_of(tensor_bytes(pairs_P2))}"
    PAIRS[name] = pairs_P2
    return name


def with_names(settings: Mapping[str, Any], orders: Sequence[int] | None = None) -> dict[str, Any]:
    """Settings in which functions, label maps and lists of pairs have become names, and orders the ratios that give
    them.

    Raises:
        ValueError: as `named`, `named_pairs` and `ratios_of`.
    """
    players = {"grid": named_grid, "pairs": named_pairs}
    named_by = {kind: partial(named, kind) for kind in KNOWN} | players
    known = {key: named_by[key](given) if key in named_by else given for key, given in settings.items()}
    if orders is not None:
        if "ratios" in settings:
            raise ValueError("orders and ratios say the same thing: give one of them")
        known["ratios"] = ratios_of(orders, players_of(known["grid"]).n_players)
    return known


def players_of(grid: int | str) -> PatchGrid | Segments:
    """The players that a setting names.

    Raises:
        ValueError: an unknown name, an impossible side.
    """
    if not isinstance(grid, str):
        return PatchGrid(grid)
    if grid not in SEGMENTS:
        raise ValueError(f"unknown players {grid!r}: give the cells along one side, a PatchGrid or Segments")
    return SEGMENTS[grid]


def pairs_of(pairs: str, grid: PatchGrid | Segments, radius: int) -> Tensor:
    """The pairs that a setting names, P×2, first < second, ascending.

    Raises:
        ValueError: an unknown name, a radius beyond the grid, a pair of other players than there are.
    """
    if pairs == "all":
        return grid.all_pairs()
    if pairs == "near":
        return grid.neighbours(radius) if isinstance(grid, PatchGrid) else grid.touching
    if pairs not in PAIRS:
        raise ValueError(f"unknown pairs {pairs!r}: choose near or all, or give a list of pairs P×2")
    check_pairs(PAIRS[pairs], grid.n_players)
    return PAIRS[pairs]


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
