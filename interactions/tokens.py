"""The baseline `drop`: the tokens of absent cells are removed after the position embedding, instead of painted.

Another game than any that paints: nothing is shown where a cell is absent, and a pass over few cells costs little. It
exists for models that treat their tokens as a set once these carry their positions, as plain vision transformers do.
Which these are is told by their structure (a patch embedding, blocks) and then by what they do (`TokenDrop.check`),
never by their names: the same network, tokens left out of it, must give the same output whatever the absent pixels
show and in whatever order the tokens stand. Windows, tables of relative positions, convolutions between or over the
tokens, and mixing along a fixed number of them all fail one of these.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

DROP = "drop"
TOLERANCE = 0.01
"""Of outputs that should be equal, in units of what other tokens make of them."""
ROUNDING = 2e-6
"""The same in units of the outputs: a sum over tokens in another order rounds otherwise."""
INSTEAD = "choose a baseline that paints, such as mean"

Forward = Callable[[Tensor], Tensor]
"""Images I×C×H×W -> outputs, a row for each image, or for each coalition while tokens are dropped."""


class TokenDrop:
    """Where, and which, tokens are left out of a model's pass.

    The images of a pass go through the patch embedding once, however many coalitions they serve. Rotary embeddings
    follow their tokens where the model has a `patch_drop` that hands on the kept indices, as timm's have.

    Args:
        model: in whose modules the transformer is looked for.
        forward: of the model.
        image_CHW: any image of the size to be measured.
        side: cells along one side of the grid.

    Raises:
        ValueError: a model whose tokens cannot be left out, or a grid whose cells are not whole patches.
    """

    def __init__(self, model: nn.Module, forward: Forward, image_CHW: Tensor, side: int) -> None:
        self.path, transformer = find(model)
        rows, columns = token_grid(transformer, forward, image_CHW)
        if rows % side or columns % side:
            fits = [k for k in range(2, min(rows, columns) + 1) if rows % k == columns % k == 0]
            raise ValueError(
                f"a {side}×{side} grid does not fit the model's {rows}×{columns} patches, which drop removes whole: "
                + (f"choose --grid {' or '.join(map(str, fits))}" if fits else INSTEAD)
            )
        self.tokens = rows * columns
        down, right = rows // side, columns // side
        token_RC = torch.arange(self.tokens, device=image_CHW.device).view(side, down, side, right)
        self.tokens_of_NT = token_RC.transpose(1, 2).reshape(side**2, -1)
        self.prefix, self.through_patch_drop = 0, hasattr(transformer, "patch_drop")
        self.empty: str | None = None
        """Why a pass without any patch token has no value, where it has none."""

    def check(self, model: nn.Module, forward: Forward, image_CHW: Tensor, shown_N: Tensor, other_CHW: Tensor) -> None:
        """Raises ValueError for a model that does not treat its tokens as a set of patches.

        Args:
            shown_N: a coalition.
            other_CHW: an image with the same pixels in its cells, and others outside of them.
        """
        cells, one_B = int(shown_N.sum()), torch.zeros(1, dtype=torch.long, device=image_CHW.device)
        keep_1K, others_1K = self.kept(shown_N[None], cells), self.kept(~shown_N[None], len(shown_N) - cells)
        every_1L = torch.arange(self.tokens, device=image_CHW.device)[None]

        def of(image_CHW: Tensor, keep_1K: Tensor) -> Tensor:
            with self.keeping(model, keep_1K, one_B):
                return forward(image_CHW[None])

        try:
            found, of_others = of(image_CHW, keep_1K), of(image_CHW, others_1K)
            moved, repainted, whole = of(image_CHW, shuffled(keep_1K)), of(other_CHW, keep_1K), of(image_CHW, every_1L)
        except (ValueError, RuntimeError) as error:
            raise refusal(model, f"it does not run on a part of its tokens: {reason(error)}") from error
        rounding = ROUNDING * float(found.abs().max())
        spread = float((found - of_others).abs().max())
        if not spread > 2 * rounding:
            raise refusal(model, "its output is the same whichever tokens are kept")
        for why, expected, other in (
            ("its tokens need their places in the grid, as windows and relative positions do", found, moved),
            ("tokens that are kept see the pixels of absent cells", found, repainted),
            ("with all tokens kept it gives another output", forward(image_CHW[None]), whole),
        ):
            if not float((expected - other).abs().max()) <= max(rounding, TOLERANCE * spread):
                raise refusal(model, why)
        self.empty = self._why_not_empty(of, image_CHW)

    def kept(self, coalitions_BN: Tensor, cells: int) -> Tensor:
        """The patch tokens of coalitions that show `cells` cells each, B×K."""
        cells_BC = coalitions_BN.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :cells]
        return self.tokens_of_NT[cells_BC].flatten(1)

    def share(self, cells: int) -> float:
        """Tokens of a pass over so many cells, as a share of those of a whole image."""
        tokens = self.prefix + cells * self.tokens_of_NT.shape[1]
        return max(tokens, 1) / (self.prefix + self.tokens)

    @contextmanager
    def keeping(self, model: nn.Module, keep_BK: Tensor, image_B: Tensor) -> Iterator[None]:
        """While it lasts, a pass over images I×C×H×W is one over B rows: row b has those tokens of image image_B[b]."""
        transformer = model.get_submodule(self.path)
        reached = False

        def take(x_ILD: Tensor) -> Tensor:
            nonlocal reached
            if x_ILD.ndim != 3 or x_ILD.shape[1] < self.tokens:
                raise RuntimeError(f"its tokens are {'×'.join(map(str, x_ILD.shape))}, not a sequence of all patches")
            reached, self.prefix = True, x_ILD.shape[1] - self.tokens
            first_P = torch.arange(self.prefix, device=x_ILD.device).expand(len(keep_BK), -1)
            return x_ILD[image_B[:, None], torch.cat([first_P, keep_BK + self.prefix], 1)]

        with dropping(transformer, take, keep_BK) if self.through_patch_drop else before_blocks(transformer, take):
            yield
        if not reached:
            raise RuntimeError("its tokens take another way")

    def refuse_empty(self) -> None:
        """Raises ValueError where a coalition without cells has no value."""
        if self.empty:
            raise ValueError(
                f"under the baseline drop this model gives no value to an image without patches ({self.empty}): leave "
                "out what asks for it (order 0, so --ratios 0.05 0.1 …; the design exact; the share 1 of an occlusion; "
                "Shapley values), or " + INSTEAD
            )

    def _why_not_empty(self, of: Callable[[Tensor, Tensor], Tensor], image_CHW: Tensor) -> str | None:
        none_10 = torch.empty(1, 0, dtype=torch.long, device=image_CHW.device)
        try:
            finite = bool(of(image_CHW, none_10).isfinite().all())
        except (ValueError, RuntimeError) as error:
            return reason(error)
        return None if finite else "it pools the patches' tokens alone, of which there are none"


def refusal(model: nn.Module, why: str) -> ValueError:
    """The error for a model whose tokens cannot be left out."""
    return ValueError(
        f"the baseline drop needs a plain vision transformer, whose tokens can be left out once they have their "
        f"positions, which {type(model).__name__} is not ({why}): {INSTEAD}"
    )


def find(model: nn.Module) -> tuple[str, nn.Module]:
    """The transformer among the modules of a model, and its path.

    Raises:
        ValueError: none, or several.
    """
    found = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(getattr(module, "patch_embed", None), nn.Module)
        and isinstance(getattr(module, "blocks", None), nn.ModuleList | nn.Sequential)
        and len(module.blocks)  # type: ignore[arg-type]
    ]
    if len(found) != 1:
        raise refusal(model, f"it has {len(found) or 'no'} patch embeddings with blocks behind them")
    return found[0]


def token_grid(transformer: nn.Module, forward: Forward, image_CHW: Tensor) -> tuple[int, int]:
    """Rows and columns of the patches of an image: of square ones, or of the shape that fits their number."""
    seen: list[Any] = []
    embedding: nn.Module = transformer.patch_embed  # type: ignore[assignment]
    with embedding.register_forward_hook(lambda module, args, output: seen.append(output)):
        forward(image_CHW[None])
    x = seen[0] if seen else None
    if not isinstance(x, Tensor) or x.ndim not in (3, 4):
        raise refusal(transformer, "its patch embedding gives no tokens")
    tokens = x.shape[1] if x.ndim == 3 else x.shape[1] * x.shape[2]  # 4: B×rows×columns×D
    height, width = image_CHW.shape[1:]
    rows = round((tokens * height / width) ** 0.5)
    if not rows or tokens % rows or height % rows or width % (tokens // rows):
        raise refusal(transformer, f"{tokens} patches do not tile an image of {height}×{width} pixels")
    return rows, tokens // rows


@contextmanager
def dropping(transformer: Any, take: Callable[[Tensor], Tensor], keep_BK: Tensor) -> Iterator[None]:
    """The transformer's own `patch_drop` replaced by one that takes the given tokens."""
    before = transformer.patch_drop
    # A model that goes on with the indices has none at rest, or one that returns two things.
    indexed = before is None or isinstance(before(keep_BK.new_zeros(1, 1, 1)), tuple)
    transformer.patch_drop = _Drop(take, keep_BK if indexed else None)
    try:
        yield
    finally:
        transformer.patch_drop = before


def before_blocks(transformer: Any, take: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Tokens taken where they enter the first block, inside the handle's context."""
    return transformer.blocks[0].register_forward_pre_hook(lambda module, args: (take(args[0]), *args[1:]))


class _Drop(nn.Module):
    def __init__(self, take: Callable[[Tensor], Tensor], keep_BK: Tensor | None) -> None:
        super().__init__()
        self.take, self.keep_BK = take, keep_BK

    def forward(self, x_ILD: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.take(x_ILD) if self.keep_BK is None else (self.take(x_ILD), self.keep_BK)


def shuffled(keep_1K: Tensor) -> Tensor:
    """The same tokens in another order, at random: a convolution along them would not notice that they are reversed."""
    order_K = torch.randperm(keep_1K.shape[1], generator=torch.Generator().manual_seed(0))
    return keep_1K[:, order_K.to(keep_1K.device)]


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
