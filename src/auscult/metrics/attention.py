"""Attention: how the weights of attention are spread, and how much of them lies on later positions."""

import math
from collections.abc import Callable, Mapping
from inspect import signature
from time import perf_counter
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional

from auscult.core.sink import Channel
from auscult.metrics.marks import running_backward
from auscult.metrics.norms import is_transformed, measurable
from auscult.metrics.parameters import clean_path
from auscult.metrics.taps import FunctionTap

SEEN = 2**20
"""Weights of one call that are looked at: of some samples, then some heads, then some queries."""
MASKED = -5e3
"""A score at or below it is a mask: -10000, -1e9, the smallest number of half precision and -inf are in use."""

_PRODUCT = functional.scaled_dot_product_attention
_MODULE = functional.multi_head_attention_forward
_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)
_PRODUCT_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_MODULE_NAMES = tuple(signature(_MODULE).parameters)
_PRODUCTS = ("Bmm", "Baddbmm")
_SHAPES = (
    "View", "UnsafeView", "ReshapeAlias", "Slice", "Select", "Expand", "Permute", "Transpose", "T", "Unsqueeze",
    "Squeeze", "ToCopy", "Clone",
)  # fmt: skip
# What stands between the product of queries and keys and its softmax: scaling, masks, a bias, a bound, other shapes.
_BETWEEN = (
    "Softmax", "Div", "Mul", "Add", "Sub", "Neg", "MaskedFill", "Where", "Tanh", "Clamp", "CopySlices", *_SHAPES,
)  # fmt: skip
_NODES = 48


class AttentionTap(FunctionTap):
    """Hears `scaled_dot_product_attention`, `nn.MultiheadAttention`, and the softmax of a batched product of matrices.

    Attributes:
        latest: Path of the leaf module that was called last: attention by a function belongs to its parent.
        spent: Seconds spent in here since it was last set to 0.

    Args:
        root: The model.
        failed: Told of an exception in here.
    """

    def __init__(self, root: nn.Module, failed: Callable[[str, Exception], None]) -> None:
        super().__init__((_PRODUCT, _MODULE, *_SOFTMAX))
        self.latest = ""
        self.spent = 0.0
        self._failed = failed
        modules = [(path, each) for path, each in root.named_modules() if isinstance(each, nn.MultiheadAttention)]
        self._modules = [(ref(each), clean_path(path)) for path, each in modules]
        self._sums: dict[str, list[Tensor]] = {}

    def hear(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object
    ) -> None:
        """Measure a call."""
        given = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
        if given is None or not _usable(given) or running_backward() != -1:
            return
        begin = perf_counter()
        try:
            with torch.no_grad(), torch.autocast(given.device.type, enabled=False):
                self._hear(function, args, kwargs, result)
        except Exception as error:
            self.wanted = False
            self._failed("attention", error)
        self.spent += perf_counter() - begin

    def take(self) -> dict[str, Tensor]:
        """Hand over what was heard since the last call, by path: see `figures`."""
        sums, self._sums = self._sums, {}
        self.latest = ""
        return {path: torch.stack(calls).sum(0) for path, calls in sums.items()}

    def _hear(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object
    ) -> None:
        path, sums = self.latest.rpartition(".")[0], None
        if function is _PRODUCT:
            sums = _of_product(dict(zip(_PRODUCT_NAMES, args)) | dict(kwargs))
        elif function is _MODULE:
            given = dict(zip(_MODULE_NAMES, args)) | dict(kwargs)
            path, sums = self._path_of(given["out_proj_weight"], path), _of_module(given)
        elif isinstance(result, Tensor) and _is_attention(args, kwargs, result):
            sums = _of_softmax(args[0] if args else kwargs["input"], result)
        if sums is not None:
            self._sums.setdefault(path, []).append(sums)

    def _path_of(self, weight: Tensor, otherwise: str) -> str:
        held = ((module(), path) for module, path in self._modules)
        owners = (path for module, path in held if module is not None and module.out_proj.weight is weight)
        return next(owners, otherwise)


def figures(taken: Mapping[str, Tensor]) -> dict[Channel, float]:
    """What a tap has heard, on the host: means over all queries of all calls of a path."""
    found: dict[Channel, float] = {}
    for path, sums in taken.items():
        entropy, rows, ahead, queries = sums.tolist()
        if rows:
            found[Channel("attention_entropy", path)] = entropy / rows
        if queries:
            found[Channel("attention_ahead", path)] = ahead / queries
    return found


def _is_attention(args: tuple[Any, ...], kwargs: Mapping[str, Any], weights: Tensor) -> bool:
    """Whether a softmax was taken over the last dimension of a batched product of two computed matrices."""
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if weights.ndim < 3 or axis not in (-1, weights.ndim - 1) or min(weights.shape[-2:]) < 2 or not _usable(weights):
        return False
    waiting: list[Node | None] = [weights.grad_fn]
    for _ in range(_NODES):
        node = waiting.pop(0) if waiting else None
        kind = _kind(node)
        if node is not None and kind in _PRODUCTS:
            return all(map(_is_computed, [each for each, _ in node.next_functions][-2:]))
        if node is not None and kind in _BETWEEN:
            waiting += [each for each, _ in node.next_functions]
    return False


def _is_computed(node: Node | None) -> bool:
    """Whether a tensor is more than another shape of a parameter or a constant: a weight is no key."""
    while node is not None and _kind(node) in _SHAPES:
        node = node.next_functions[0][0]
    return node is not None and _kind(node) != "torch::autograd::AccumulateGrad"


def _kind(node: Node | None) -> str:
    return "" if node is None else node.name().partition("Backward")[0]


def _usable(*tensors: Tensor) -> bool:
    return all(
        each.layout == torch.strided and each.numel() and measurable(each) and not is_transformed(each)
        for each in tensors
    )


def _of_softmax(scores: Tensor, weights: Tensor) -> Tensor:
    index, rows = _some(weights.shape)
    return _sums(weights[index].float(), ~(scores[index] <= MASKED), rows, square=_is_square(weights.shape))


def _of_product(given: Mapping[str, Any]) -> Tensor | None:
    query, key, mask = given["query"], given["key"], given.get("attn_mask")
    if not _usable(query, key, *(() if mask is None else (mask,))) or min(query.ndim, key.ndim) < 2:
        return None
    if given.get("enable_gqa") and query.ndim > 2:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scale = given.get("scale")
    return _of_queries_and_keys(query, key, mask, bool(given.get("is_causal")), scale)


def _of_module(given: Mapping[str, Any]) -> Tensor | None:
    """The weights of nn.MultiheadAttention, of some samples: `(L, N, E)` or `(L, E)` in, projected as it does."""
    query, key = given["query"], given["key"]
    if given.get("bias_k") is not None or given.get("add_zero_attn") or given.get("static_k") is not None:
        return None
    if not _usable(query, key):
        return None
    query, key = (each.unsqueeze(1) if each.ndim == 2 else each for each in (query, key))
    heads, samples = given["num_heads"], query.shape[1]
    kept = min(samples, max(1, SEEN // (heads * query.shape[0] * key.shape[0])))
    if given.get("use_separate_proj_weight"):
        weights = given["q_proj_weight"], given["k_proj_weight"]
    else:
        weights = given["in_proj_weight"].chunk(3)[:2]
    biases = (None, None) if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)[:2]
    query, key = (
        functional.linear(each[:, :kept].float(), weight.float(), None if bias is None else bias.float())
        .unflatten(-1, (heads, -1))
        .permute(1, 2, 0, 3)
        for each, weight, bias in zip((query, key), weights, biases, strict=True)
    )
    mask, padding = _additive(given.get("attn_mask")), _additive(given.get("key_padding_mask"))
    if mask is not None and mask.ndim == 3:
        mask = mask.view(samples, heads, *mask.shape[1:])[:kept]
    if padding is not None:
        padding = padding.view(samples, 1, 1, -1)[:kept]
        mask = padding if mask is None else mask + padding
    return _of_queries_and_keys(query, key, mask, False, None)


def _additive(mask: Tensor | None) -> Tensor | None:
    """A mask of nn.MultiheadAttention, in which True hides, as one that is added to scores."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill(mask, -math.inf)


def _of_queries_and_keys(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    """Of `(..., L, E)` and `(..., S, E)`, by which the user's attention is computed as well."""
    batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    shape = torch.Size((*batch, query.shape[-2], key.shape[-2]))
    index, rows = _some(shape)
    query, key = query.expand(*batch, -1, -1)[index], key.expand(*batch, -1, -1)[index[:-1]]
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query.float() * factor) @ key.float().mT
    places = torch.arange(shape[-2], device=scores.device)[rows].unsqueeze(-1)
    visible = torch.ones_like(scores, dtype=torch.bool)
    if causal:
        visible &= torch.arange(shape[-1], device=scores.device) <= places
    if mask is not None:
        mask = mask.expand(shape)[index]
        visible &= mask if mask.dtype == torch.bool else ~(mask <= MASKED)
        scores = scores if mask.dtype == torch.bool else scores + mask
    weights = scores.masked_fill(~visible, -math.inf).softmax(-1)
    return _sums(weights, visible, rows, square=_is_square(shape))


def _some(shape: torch.Size) -> tuple[tuple[slice, ...], slice]:
    """Which of weights `(..., L, S)` are looked at: an index for all dimensions but the last, and its last entry."""
    index: list[slice] = []
    left = shape.numel()
    for size in shape[:-1]:
        step = min(size, -(-left // SEEN))
        index.append(slice(None, None, step))
        left = left // size * -(-size // step)
    return tuple(index), index[-1]


def _sums(weights: Tensor, visible: Tensor, rows: slice, square: bool) -> Tensor:
    """Sums over queries, and their numbers: `(4,)`, entropy / log(keys seen) where these are two or more; mass ahead.

    Args:
        weights: float32 `(..., R, S)`.
        visible: Which keys each query may see, likewise.
        rows: Which of the queries these are.
        square: Whether there are as many queries as keys.
    """
    weights = torch.where(visible, weights, 0.0)
    keys = visible.sum(-1)
    entropy = -torch.special.xlogy(weights, weights).sum(-1)
    many, some = keys >= 2, keys >= 1
    relative = torch.where(many, entropy / keys.clamp(min=2).log(), 0.0)
    sums = [relative.sum(), many.sum()]
    if square:
        columns = torch.arange(weights.shape[-1], device=weights.device)
        ahead = (weights * (columns > columns[rows].unsqueeze(-1))).sum(-1)
        sums += [torch.where(some, ahead, 0.0).sum(), some.sum()]
    else:
        sums += [torch.zeros_like(sums[0])] * 2
    wide = torch.float32 if weights.device.type == "mps" else torch.float64
    return torch.stack([each.to(wide) for each in sums])


def _is_square(shape: torch.Size) -> bool:
    return shape[-1] == shape[-2]
