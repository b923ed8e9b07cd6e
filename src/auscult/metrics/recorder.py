"""Recorder: keeps what a step began with, so that the step can be made again when something is found in it."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import CellType, CodeType, FunctionType
from typing import Any, cast
from weakref import ref

import torch
from torch import Tensor, nn

from auscult.core.errors import SetupError
from auscult.core.origin import Origin
from auscult.core.run import Parameter
from auscult.metrics.calls import flaw, tensors
from auscult.metrics.examination import Examination
from auscult.metrics.moment import BATCH_NORMS, Moment, Setting, Written, take_moment, version
from auscult.metrics.norms import measurable
from auscult.metrics.origin import Symptoms, search
from auscult.metrics.parameters import clean_path
from auscult.metrics.reexamination import reexamine
from auscult.metrics.replay import CannotReplay, LossOf, bare

BUFFER_BYTES = 64 * 2**20
_SCALARS = (int, float, bool, str)


class Recorder:
    """Keeps the beginning of the last training forward pass: references to its arguments, random states, buffers.

    Per step, the caller tells in this order: `find` for the step before, if that was not finite, and `examine`, if
    something was found in it; `forward_began`, for every training forward pass; `hold`, before the update, where a norm
    is known by then not to be finite; `update_began`.

    Args:
        model: The model.
        replay: Makes the loss of the batch in progress, given the model. It may use the variables of the training loop:
            `lambda model: loss_fn(model(inputs), targets)`. They are taken as they are when the update begins.
    """

    def __init__(self, model: nn.Module, replay: LossOf | None = None) -> None:
        if replay is not None and not callable(replay):
            raise SetupError(
                f"Expected `replay` to be a function of the model, but got {type(replay).__name__}. "
                "Write replay=lambda model: loss_fn(model(inputs), targets)."
            )
        root = bare(model)
        self._model = ref(root)
        self._first = next(root.parameters(), None)
        self._buffers = [
            (name, vars(module)["_buffers"], name.rpartition(".")[2])
            for path, module in root.named_modules()
            if not isinstance(module, BATCH_NORMS)
            for name in (f"{path}.{each}" if path else each for each, _ in module.named_buffers(recurse=False))
        ]
        self._last: dict[str, Written] = {}  # buffers as the last pass began
        self._moving: set[str] = set()  # buffers that are written to in place and so have to be copied
        self._plain: list[tuple[dict[str, Any], str]] | None = None
        self._replay = None if replay is None else _LateNames(replay)
        self._trained = [(clean_path(name), each) for name, each in root.named_parameters() if not each.is_inference()]
        self._versions: list[int] = []  # of these, when the last pass began
        self._moment: Moment | str = "no training forward pass was seen"
        self._held: dict[str, Tensor] = {}
        self._finite: tuple[str, ...] | None = None
        self._calls = 0

    def forward_began(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A training forward pass begins; raises nothing.

        Args:
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        self._calls += 1
        self._held, self._finite = {}, None
        self._versions = [each._version for _, each in self._trained]
        try:
            device = torch.device("cpu") if self._first is None else self._first.device
            self._moment = take_moment(args, kwargs, device, self._keep_buffers(), self._settings(), self._calls)
        except Exception as error:
            self._moment = f"what the forward pass began with could not be kept ({type(error).__name__}: {error})"

    def hold(self, norms: Mapping[str, float]) -> None:
        """A norm of a gradient is known not to be finite, and the update (and clipping) has not been made yet.

        Copies the parameters and the batch and looks at the gradients, which costs about as much as an update.

        Args:
            norms: Norms of the gradients by path.
        """
        model = self._model()
        if model is None or self._held:
            return
        live = {clean_path(name): each for name, each in model.named_parameters()}
        suspects = [path for path, norm in norms.items() if norm == math.inf and path in live]
        gradients = {path: live[path].grad for path in suspects}
        self._finite = tuple(path for path, each in gradients.items() if each is not None and not flaw(each))
        if isinstance(self._moment, Moment) and not self._moment.overwritten():
            self._moment = self._moment.copied()
        self._held = {path: each.detach().clone() for path, each in live.items() if measurable(each)}

    def update_began(self) -> None:
        """The update is about to be made: the variables that `replay` uses are those of this step."""
        self._calls = 0
        if self._replay is not None:
            self._replay.take()

    def find(
        self,
        step: int,
        *,
        gradients: Mapping[str, float] | None = None,
        loss: float | None = None,
        total_norm: float | None = None,
        before: Mapping[str, Tensor] | None = None,
        updated: bool = True,
    ) -> Origin:
        """Find where the first non-finite number of the step arose; changes nothing of the run and raises nothing.

        Costs about as much as two or three steps, and the memory of one and of a copy of the parameters.

        Args:
            step: The step.
            gradients: Norms of its gradients before clipping, in float64, by path; None where they were not taken.
            loss: Its loss; None where it was not observed.
            total_norm: Total norm as clipping took it.
            before: The parameters before the update, by path; None where only `hold` may have kept them.
            updated: Whether the update has been made.

        Returns:
            The origin, or what could be told and why no more.
        """
        model = self._model()
        if model is None:
            return Origin(step, reason="the model is gone")
        try:
            kept = {**self._held, **(before or {})} if updated or self._held else None
            symptoms = self._symptoms(step, gradients, loss, total_norm, updated)
            return search(model, symptoms, self._moment, kept, self._replay)
        except Exception as error:
            return Origin(step, reason=f"the search raised {type(error).__name__}: {error}")

    def examine(
        self,
        step: int,
        parameters: Sequence[Parameter],
        before: Mapping[str, Tensor],
        nearly: Mapping[str, Tensor],
        measured: Mapping[str, float],
        activations: bool,
    ) -> tuple[Examination, list[str]]:
        """Examine the step that the last forward pass belonged to, whose update has been made; see `reexamine`.

        Args:
            step: The step.
            parameters: The parameters that the ledger measures, in its order.
            before: The parameters before the update, by path, as far as they were kept.
            nearly: Those that were told from their update, to its rounding.
            measured: Norms of the step's gradients by path.
            activations: Whether the outputs of modules are wanted.

        Raises:
            CannotReplay: if the pass cannot be made again as it was.
        """
        model = self._model()
        if model is None:
            raise CannotReplay("the model is gone")
        if isinstance(self._moment, str):
            raise CannotReplay(self._moment)
        same = {path: each for (path, each), count in zip(self._trained, self._versions) if each._version == count}
        known = {**nearly, **same, **before, **self._held}
        wanted = [clean_path(name) for name, each in model.named_parameters() if each.requires_grad]
        lost = [path for path in wanted if path not in known]
        if lost:
            raise CannotReplay(f"{len(lost)} parameters, {lost[0]} first, were not kept as they were before the update")
        moment, loss_of = self._moment, self._replay
        found, doubts = reexamine(model, step, parameters, moment, known, measured, loss_of, activations)
        near = [path for path in wanted if known[path] is nearly.get(path)]
        if near:
            doubts.append(f"{len(near)} parameters, {near[0]} first, were told from their update, to its rounding")
        return found, doubts

    def release(self) -> None:
        """Let go of everything that was kept."""
        self._moment = "what the forward pass began with was let go"
        self._trained.clear()
        self._versions.clear()
        self._held.clear()
        self._last.clear()
        if self._replay is not None:
            self._replay.release()

    def _symptoms(
        self,
        step: int,
        norms: Mapping[str, float] | None,
        loss: float | None,
        total_norm: float | None,
        updated: bool,
    ) -> Symptoms:
        overflowed = self._finite or ()
        bad = None if norms is None else {path: each for path, each in norms.items() if not math.isfinite(each)}
        flaws = None if bad is None else {path: flaw(torch.tensor(bad[path])) for path in bad if path not in overflowed}
        return Symptoms(step, loss, flaws, overflowed, total_norm, updated)

    def _settings(self) -> tuple[Setting, ...]:
        """What the training loop may set on the user's own modules between two steps: a temperature, a phase."""
        if self._plain is None:
            model = self._model()
            own = [vars(each) for each in model.modules() if not _is_torch(each)] if model is not None else []
            self._plain = [(held, name) for held in own for name, value in held.items() if type(value) in _SCALARS]
        return tuple([(held, name, held.get(name)) for held, name in self._plain])

    def _keep_buffers(self) -> dict[str, Written]:
        """References to the buffers; copies of those that were once written to in place."""
        kept: dict[str, Written] = {}
        room = BUFFER_BYTES
        for path, held, name in self._buffers:
            tensor: Tensor | None = held.get(name)
            if tensor is None:
                continue
            now = (tensor, version(tensor))
            before = self._last.get(path)
            if before is not None and before[0] is tensor and before[1] != now[1]:
                self._moving.add(path)
            self._last[path] = now
            size = tensor.numel() * tensor.element_size()
            if path in self._moving and size <= room:
                room -= size
                copy = tensor.detach().clone()
                kept[path] = (copy, version(copy))
            else:
                kept[path] = now
        return kept


def _is_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


class _LateNames:
    """A function whose globals and closure are taken at one time and used at another.

    A plain function looks its variables up when it is called; a step later a loop's `inputs` are the next batch.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._names = _names_of(function.__code__) if isinstance(function, FunctionType) else ()
        self._globals: dict[str, Any] = {}
        self._cells: tuple[CellType, ...] = ()
        self._written: tuple[Written, ...] = ()

    def take(self) -> None:
        """Take the variables as they are now."""
        if isinstance(self._function, FunctionType):
            around = self._function.__globals__
            self._globals = {name: around[name] for name in self._names if name in around}
            self._cells = tuple(_copied(cell) for cell in self._function.__closure__ or ())
            values = (*self._globals.values(), *(_content(cell) for cell in self._cells))
            self._written = tuple((each, version(each)) for each in tensors([_near(value) for value in values]))

    def release(self) -> None:
        """Let go of the variables."""
        self._globals, self._cells, self._written = {}, (), ()

    def __call__(self, model: nn.Module) -> Tensor:
        """The loss.

        Raises:
            CannotReplay: if it is none, or a tensor that the function uses was written to meanwhile.
        """
        if any(version(tensor) != count for tensor, count in self._written):
            raise CannotReplay("a tensor that `replay` uses was written to in place since")
        function = self._function
        if isinstance(function, FunctionType) and (self._globals or self._cells):
            around = {**function.__globals__, **self._globals}
            late = FunctionType(function.__code__, around, function.__name__, function.__defaults__, self._cells)
            late.__kwdefaults__ = function.__kwdefaults__  # pyright: ignore[reportAttributeAccessIssue]
            function = late
        loss: object = function(model)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise CannotReplay(f"`replay` returned {what} instead of a loss")
        return loss


def _names_of(code: CodeType) -> tuple[str, ...]:
    """The names that code looks up in its globals (and those of attributes), nested functions included."""
    inner = (name for each in code.co_consts if isinstance(each, CodeType) for name in _names_of(each))
    return (*code.co_names, *inner)


def _copied(cell: CellType) -> CellType:
    try:
        return CellType(cell.cell_contents)
    except ValueError:  # not assigned yet
        return CellType()


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _near(value: object) -> object:
    """A tensor or a small container; anything larger is not looked through at every step."""
    small = isinstance(value, (tuple, list, dict)) and len(cast("list[Any]", value)) <= 16
    return value if small or isinstance(value, Tensor) else None
