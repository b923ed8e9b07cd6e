"""Monitor: watches one model and its optimizers while they train.

Decides when something is measured and to which step it belongs; measures nothing itself (`auscult.monitor.gauges`) and
writes nothing itself (`auscult.monitor.journal`). Once training runs, nothing in here raises into it.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from auscult.core.errors import SetupError
from auscult.core.finding import Finding, Severity
from auscult.core.run import Segment
from auscult.core.sink import Channel, Sink
from auscult.metrics.clipping import Clip, ClipTap
from auscult.metrics.environment import versions
from auscult.metrics.hooks import BackwardHook, ModuleHook, OptimizerHooks, inner_optimizer
from auscult.metrics.losses import by_category
from auscult.metrics.marks import Marks, at_end_of_backward, running_backward
from auscult.metrics.mixed import clip_mixed, is_mixed
from auscult.metrics.norms import is_transformed
from auscult.metrics.parameters import module_table, parameter_table, unwrap
from auscult.metrics.replay import LossOf
from auscult.metrics.scaling import ScalerStep, ScaleTap
from auscult.metrics.schedule import REVIEW_STEPS, Schedule
from auscult.monitor import clipped
from auscult.monitor.arguments import Number, as_number, batch_size, step_number, text_of
from auscult.monitor.backlog import Backlog
from auscult.monitor.draft import Draft
from auscult.monitor.exchange import Exchange
from auscult.monitor.gauges import Gauges
from auscult.monitor.guard import Guard
from auscult.monitor.holdings import Holdings, ends, held_by
from auscult.monitor.idling import Idling
from auscult.monitor.journal import Journal
from auscult.monitor.lookback import LookBack
from auscult.monitor.opening import open_run
from auscult.monitor.ranks import Ranks
from auscult.monitor.tracer import Tracer
from auscult.monitor.unclosed import OPEN
from auscult.monitor.witness import PART, Witness
from auscult.store.reader import load
from auscult.store.writer import IfExists

CHANGED, SCALE, SKIPPED = (Channel(name, "") for name in ("grad_changed", "loss_scale", "skipped_updates"))


class Monitor:
    """Watches one run; made by `watch`.

    Attributes:
        path: The directory the run is written to.
        step: The step in progress: the number of the update that comes next.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Mapping[str, Optimizer],
        path: str | os.PathLike[str],
        *,
        if_exists: IfExists,
        step: int | None,
        config: object,
        loss_fn: nn.Module | None,
        schedule: Schedule,
        activations: bool,
        include: Sequence[str] | None,
        exclude: Sequence[str] | None,
        sinks: Sequence[Sink],
        on_finding: Callable[[Finding], object] | None,
        stop_on: Severity | None,
        ignore: tuple[str, ...],
        replay: LossOf | None,
        snapshot: bool,
    ) -> None:
        tensors, table = parameter_table(model, optimizers, include, exclude)
        for each in optimizers.values():
            inner_optimizer(each)
        paths = [each.path for each in table]
        ranks = self._ranks = Ranks.join(model, paths, tensors, optimizers.values(), str(path))
        opening = open_run(path, config, if_exists, step, ranks)
        self.path, self.step, past = opening.path, opening.step, opening.past
        self._journal = Journal(opening.writer, sinks, self._on_found, stop_on, schedule.fixed)
        self._on_finding = on_finding
        self._tracer = Tracer(model, paths, replay, snapshot and ranks is None)
        self._gauges = Gauges(model, tensors, table, past, activations, snapshot, self._failed)
        self._backlog = Backlog(self._gauges, self._tracer, self._journal)
        self._segment = Segment(self.step, time.time(), table, module_table(model), versions(), ignore)
        self._journal.begin_segment(self._segment, past)
        self._exchange = ranks and Exchange(ranks, self._gauges, self._backlog, self._journal, schedule, self.path)
        self._out = self._exchange or self._backlog

        self._sharded = ranks is not None and ranks.sharded
        self._model = ref(unwrap(model))
        self._optimizers = dict(optimizers)
        self._holdings = Holdings(optimizers, self._gauges.ledger, unwrap(model), tensors)
        self._schedule = schedule
        self._look_back = LookBack(self._tracer, self._gauges, self._journal, schedule)
        self._draft = Draft(self.step)
        self._done: Draft | None = None
        self._forward_began = False
        self._updated: set[str] = set()
        self._settled: set[int] = set()  # positions of their parameters
        self._shared: set[int] = set()  # positions of parameters that several optimizers hold
        self._orphans: list[int] = []  # and of those with a gradient that none holds
        self._updated_within = -1  # the backward pass inside of which the last update was made
        self._measuring = True
        self._examine_next = False
        self._guard = Guard(self._failed)
        self._last_update: float | None = None
        self._idling = Idling()
        self._order_known = False
        self._handles = [model.register_forward_pre_hook(ModuleHook(model, self._on_forward), with_kwargs=True)]
        self._marks = Marks(tensors)
        self._marked = self._end_awaited = False
        self._asleep = False  # all instruments, and are to stay so
        self._one_coefficient = True
        self._rootless = False  # a step has been made without a call of the model as a whole
        self._clip_tap = ClipTap(tensors, self._before_clip, self._after_clip)
        self._scale_tap = ScaleTap(optimizers.values(), self._on_scaler_step)  # its hook comes before OptimizerHooks
        told = held_by(optimizers, tensors), opening.begins, loss_fn, self._scale_tap, self._guard
        self._witness = Witness(model, *told)
        self._hooks = [
            OptimizerHooks(each, partial(self._before_update, name), partial(self._after_update, name))
            for name, each in optimizers.items()
        ]
        self._backward_hook = BackwardHook(ends(tensors, optimizers), self._on_backward)
        self._begin_step()
        self._closed = False
        OPEN.add(self)

    @property
    def saved_step(self) -> int:
        """The last step that survives the death of this process; -1 before the first. Asking writes what waits."""
        self._write_backlog()
        return self._journal.saved_step

    @property
    def findings(self) -> list[Finding]:
        """The findings as they stand, worst first; asking writes what waits, and judges it."""
        self._write_backlog()
        with self._guard("recording"):
            self._journal.settle()
        return list(self._journal.findings)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """What failed inside auscult so far, as (part, message)."""
        return list(self._journal.failures)

    def log(self, values: Mapping[str, Number] | None = None, /, **named: Number) -> None:
        """Log numbers of the step: `monitor.log(loss=loss)` or `monitor.log({"train/loss": loss})`.

        They belong to the update that comes next or, after an update and before the next forward pass, to the one just
        made. Repeats of a name within a step are averaged. Tensors on an accelerator are read later, without waiting.
        Rules judge by the training loss: `loss`, or a name such as `train/loss`, `Loss/train` or `train_loss_epoch`; of
        several parts (`g_loss` and `d_loss`) by none.

        Raises:
            SetupError: before the first update, if a value is not a number or a tensor with one element.
        """
        for name, value in {**(values or {}), **named}.items():
            with self._guard("log"):
                self._open_draft().add_logged({str(name): as_number(str(name), value)})

    def log_evaluation(self, name: str, values: Mapping[str, Number] | None = None, /, **named: Number) -> None:
        """Log an evaluation: `monitor.log_evaluation("val", loss=..., accuracy=...)` is kept as `val/loss` and so on.

        Raises:
            SetupError: before the first update, if a value is not a number or a tensor with one element.
        """
        for metric, value in {**(values or {}), **named}.items():
            with self._guard("log_evaluation"):
                self._open_draft().add_evaluated(name, {str(metric): as_number(str(metric), value)})

    def log_categories(
        self,
        losses: Tensor | Sequence[float],
        categories: Sequence[object] | Tensor,
        lengths: Tensor | Sequence[float] | None = None,
    ) -> None:
        """Log the losses of single samples by category, normalised by length.

        Recorded are `category_loss` (every sample weighs the same), `category_count` and, with `lengths`,
        `category_loss_per_token` (every token weighs the same).

        Args:
            losses: Loss of each sample, `(N,)`; with `lengths`, the sum over its tokens.
            categories: Category of each sample, N of anything `str` can name.
            lengths: Tokens of each sample, `(N,)`, > 0.

        Raises:
            SetupError: before the first update, if the lengths of the arguments differ or a length is not positive.
        """
        with self._guard("log_categories"):
            self._open_draft().add_sums(by_category(losses, categories, lengths))

    def examine(self) -> None:
        """Record the step in progress in full detail, as the first and the last one are; `run.detail(step)` has it.

        Distributions of activations, gradients, parameters and updates, saturated and dead units, BatchNorm statistics:
        of all elements, so it takes several times as long as the step itself. Once the forward pass of a step has
        begun, it is the next step that is recorded.
        """
        self._examine_next = True
        with self._guard("measuring"):
            if not self._begun():
                self._begin_examination()

    def clip_grad_norm_(self, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
        """Clip the gradients of the model as `torch.nn.utils.clip_grad_norm_` does, to the bit, and log what it did.

        Args:
            max_norm: Largest total norm.
            norm_type: Order of the norm.
            error_if_nonfinite: Whether a total norm of NaN or infinity raises, as in torch.

        Returns:
            The total norm before clipping.
        """
        model = self._model()
        parameters = [] if model is None else list(model.parameters())
        mixed = self._sharded and is_mixed(parameters)
        if self._clip_tap.unheard or mixed:  # by this torch, or because it is not torch that clips
            with self._guard("measuring"):
                self._flush()
                self._take_gradients(self._gauges.ledger.everything(), self._optimizers)
                self._clipped, self._one_coefficient, self._marked = True, False, self._marked and not mixed
                self._draft.clip_bound = float(max_norm) if mixed and norm_type == 2 else None
        clip = clip_mixed if mixed else nn.utils.clip_grad_norm_
        return clip(parameters, max_norm, norm_type, error_if_nonfinite)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to continue this run on the same x-axis; plain numbers and strings."""
        return {"step": self.step, "path": str(self.path)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the step of a checkpoint; to be called before the first update.

        Raises:
            SetupError: if an update has been made since `watch`.
        """
        if self._last_update is not None:
            raise SetupError(
                f"Expected `load_state_dict` to be called before the first update, but {self.step} were made. "
                "Write it right after `watch(..., if_exists='resume')`."
            )
        step = step_number(state.get("step"))
        if step != self.step:
            self.step = step
            self._segment = replace(self._segment, step=self.step, time=time.time())
            self._journal.begin_segment(self._segment, load(self.path))
            self._begin_step()

    def close(self, reason: str = "closed") -> None:
        """Write what is open, take all hooks off, free the snapshots; idempotent.

        Args:
            reason: Why, as it will stand in the run.
        """
        if self._closed:
            return
        self._closed = True
        with self._guard("closing"):
            self._journal.never_stop()
            if self._updated:
                self._finish_step()
        with self._guard("closing"):
            self._flush()
            if self._exchange is not None:
                self._exchange.finish(self.step, not reason.startswith("exception"))
            self._write_backlog()
            if self._backward_began:
                self._journal.observe_standstill(self._idling.ended(self.step))
        with self._guard("recording"):
            if self._draft.told:  # a step that was begun and never made
                self._journal.record([self._draft.step], self._gauges.user_rows(self._draft))
        taken_off = [each.remove for each in self._handles]
        taken_off += [each.close for each in (*self._hooks, self._backward_hook, self._clip_tap, self._scale_tap)]
        for take_off in (*taken_off, self._witness.close, self._gauges.close, self._tracer.release):
            with self._guard("closing"):  # each by itself, so that one that fails leaves no other behind
                take_off()
        with self._guard("closing"):
            self._journal.close(self.step - 1, reason)

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close("closed" if kind is None else f"exception: {kind.__name__}: {text_of(error)}")

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close("dropped")

    def __repr__(self) -> str:
        return f"Monitor({str(self.path)!r}, step {self.step}, {len(self.findings)} findings)"

    # -- the order of events in a step: forward, backward, clipping, update, what users log, the next forward ---------

    def _begin_step(self) -> None:
        """Decide what is measured of the step that begins."""
        draft = self._draft = Draft(self.step)
        self._forward_began = self._backward_began = self._clipped = self._marked = self._end_awaited = False
        self._one_coefficient = True  # one factor tells what clipping did to all gradients
        if self.step % REVIEW_STEPS == 0:
            self._measuring = True  # what failed once may work again
        draft.due = self._schedule.norms(self.step), self._schedule.samples(self.step)
        if self._measuring:
            draft.norms_taken, draft.sampled = draft.due
        self._shared = self._holdings.shared()
        if self._examine_next or self._schedule.examines(self.step):
            self._begin_examination()
        resting = self._resting
        before, self._asleep = self._asleep, resting and not (draft.norms_taken or draft.sampled)
        if before and self._asleep:
            return
        self._gauges.arm(draft, resting)
        self._backward_hook.listen(draft.norms_taken or not resting)
        self._clip_tap.sharing = draft.norms_taken and not draft.sampled and not self._sharded
        self._witness.arm(draft.sampled, self._last_update is not None)

    def _begin_examination(self) -> None:
        """The step that begins is recorded in full detail."""
        self._examine_next = self._asleep = False
        if self._measuring and (self._ranks is None or (self._ranks.writes and self._ranks.whole)):
            self._draft.norms_taken = self._draft.sampled = True
            self._draft.examination = self._gauges.examine(self.step)
            self._gauges.arm(self._draft, self._resting)
            self._witness.arm(True, self._last_update is not None)

    def _on_forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model is about to be called."""
        model = self._model()
        if model is None or not model.training:
            with self._guard("measuring"):
                self._gauges.leave_alone(True)
                if torch.is_grad_enabled():  # a backward pass may follow all the same
                    self._witness.forward_began(False, args, kwargs)
                else:
                    self._witness.evaluation_began()
            return
        if not torch.is_grad_enabled():
            self._witness.evaluations += 1
            return
        with self._guard("measuring"):
            self._gauges.leave_alone(False)
            given = (*args, *kwargs.values()) if kwargs else args
            if any(is_transformed(each) for each in given if isinstance(each, Tensor)):
                return  # not a training pass, and no place to read tensors in
            recomputed = running_backward() != -1  # by activation checkpointing, around the model as a whole
            if recomputed:
                if self._forward_began:
                    return
                self._witness.evaluations -= 1  # its first pass was made without gradients
            self._forward_began = not recomputed
            self._idling.passed()
            self._flush()
            if self._clipped and not self._settled and not self._reevaluating():
                self._forget_clipping()
            if self._draft.norms_taken:  # only then the parameters before the update are known later
                self._tracer.forward_began(self.step, args, kwargs)
            self._draft.samples += batch_size(given)
            self._draft.passes += 1
            self._gauges.begin_pass()
            self._witness.forward_began(True, args, kwargs)

    def _on_backward(self) -> None:
        """A backward pass has reached a parameter: what was taken for clipping is old where no update followed."""
        with self._guard("measuring"):
            if self._updated_within != -1 and self._updated_within == running_backward():
                return  # its step is over already
            if self._ranks is not None and not self._backward_began:
                self._draft.backward_at = time.perf_counter() - self._guard.seconds
            self._backward_began = True
            self._witness.backward_began()
            if self._draft.norms_taken and not self._end_awaited:
                self._end_awaited = at_end_of_backward(partial(self._on_backward_end, self.step))
            if self._clipped and not self._reevaluating():
                self._clipped = False
                self._gauges.ledger.forget_gradients(set(self._gauges.ledger.everything()) - self._settled)
                if not self._settled:
                    self._forget_clipping()

    def _on_backward_end(self, step: int) -> None:
        """All gradients are there, or gone where the update of this step was made inside the backward pass."""
        if step != self.step:
            return
        with self._guard("measuring"):
            self._end_awaited = False
            self._marked = True
            self._marks.remember()

    def _before_clip(self, clip: Clip) -> None:
        """Gradients are in place, and about to be clipped."""
        with self._guard("measuring"):
            if self._reevaluating():
                return  # the first evaluation is what is recorded of this step
            self._flush()
            self._clipped = True
            self._tracer.clipped(clip.total)
            if self._draft.norms_taken:
                ledger = self._gauges.ledger
                positions = ledger.positions(clip.parameters())
                self._marks.changed(positions)
                known, norms = clip.shared()
                shared = dict(zip(ledger.positions(known), norms.tolist(), strict=True))
                self._take_gradients(positions, self._optimizers, shared)
            if not clipped.note(self._draft, clip, self._gauges.ledger, self._sharded):
                self._one_coefficient = False

    def _after_clip(self, clip: Clip) -> None:
        """Gradients are clipped."""
        with self._guard("measuring"):
            if self._draft.norms_taken:
                self._marks.renew(self._gauges.ledger.positions(clip.parameters()))

    def _on_scaler_step(self, told: ScalerStep) -> None:
        """A gradient scaler has let an update happen, or not; a fused optimizer is called all the same."""
        with self._guard("measuring"):
            draft = self._draft if told.skipped is True or self._done is None else self._done
            draft.steps[SCALE] = told.scale
            draft.steps[SKIPPED] = draft.steps.get(SKIPPED, 0.0) + told.skipped
            if told.skipped is True:
                self._journal.observe_standstill(self._idling.skipped(self.step))

    def _before_update(self, name: str) -> None:
        """Gradients are in place, parameters not yet changed."""
        with self._guard("measuring"):
            if name in self._updated:
                self._finish_step()
            self._flush()
            if self._witness.watching:
                showed = None if self._order_known else self._gauges.first_pass()
                self._draft.witnessed = self._witness.finish(self.step, self._journal, showed)
                self._draft.batch = self._witness.batch
            if not self._order_known:
                self._note_order()
            self._clipped = True  # from here on the gradients count as taken, also if the update fails
            self._draft.steps.update(self._holdings.rates(name))
            if self._draft.norms_taken:
                held = self._holdings.still_in_model(name)
                if self._marked:
                    before = self._draft.steps.get(CHANGED, 0.0)
                    self._draft.steps[CHANGED] = before + len(self._marks.changed(held))
                self._orphans = [] if self._updated else self._holdings.orphans()
                self._take_gradients([*held, *self._orphans], (name,))
                earlier = self._shared & self._settled
                mine = [each for each in held if each not in earlier] if earlier else held
                self._gauges.ledger.before([*mine, *self._orphans])
                self._tracer.update_began()

    def _after_update(self, name: str) -> None:
        """Parameters are changed."""
        if self._draft.norms_taken or len(self._optimizers) > 1:
            with self._guard("measuring"):
                held = self._holdings.held(name)
                self._settled.update(held)
                if self._draft.norms_taken:
                    later = self._holdings.waiting_beside(name, self._updated, self._shared)
                    now = [each for each in (*held, *self._orphans) if each not in later]
                    self._gauges.ledger.after(now, self._draft.sampled, self._holdings.intention(name))
        self._updated.add(name)
        if len(self._updated) == len(self._optimizers):
            self._finish_step()

    def _finish_step(self) -> None:
        """All optimizers have made their update, or one of them begins the next step."""
        draft, step = self._draft, self.step
        if self._shared and draft.norms_taken:
            with self._guard("measuring"):  # those that waited for an optimizer that made no update
                self._gauges.ledger.after(list(self._shared & self._settled), draft.sampled)
        self._done = draft
        self._rootless |= not self._forward_began
        self._updated.clear()
        self._settled.clear()
        self.step += 1
        with self._guard("measuring"):
            self._idling.updated()
            self._updated_within = running_backward()
            self._gauges.end_step(draft)
            if self._exchange is not None:
                self._exchange.update_made(draft)
        with self._guard("schedule"):
            self._note_times(draft, step)
        with self._guard("measuring"):
            self._begin_step()

    def _note_times(self, draft: Draft, step: int) -> None:
        now = time.perf_counter()
        whole = None if self._last_update is None else now - self._last_update
        self._last_update = now
        inside = self._guard.seconds + self._gauges.spent()
        self._guard.seconds = 0.0
        self._guard.strict = False
        draft.add_times(inside, whole)
        clipped.settle(draft, self._one_coefficient)
        cadence = self._schedule.spent(step, inside, whole, draft.examination is not None)
        if cadence is not None:
            self._journal.event("schedule", step + 1, norms=cadence.norms, samples=cadence.samples)

    def _flush(self) -> None:
        """Nothing can be added any more to the step whose update has been made."""
        if self._done is not None:
            done, self._done = self._done, None
            with self._guard("recording"):
                self._out.add(done)

    def _write_backlog(self) -> None:
        """Write the rows of the steps to which nothing can be added any more."""
        with self._guard("recording"):
            self._backlog.write()

    def _note_order(self) -> None:
        """After the first pass that was measured: the order of the modules."""
        order = self._gauges.order()
        if order:
            self._order_known = True
            self._journal.order_modules(self.step, self._segment.in_forward_order(order), order)

    def _on_found(self, finding: Finding) -> None:
        """A finding is new or has changed."""
        if self._ranks is None:
            with self._guard("look-back"):
                self._look_back.after(finding, self.step)
        if self._on_finding is not None:
            self._on_finding(finding)

    def _forget_clipping(self) -> None:
        """No update has followed it, and the gradients are made anew."""
        self._one_coefficient = True
        clipped.forget(self._draft)

    def _reevaluating(self) -> bool:
        """Whether an optimizer is calling its closure again, within one update."""
        return any(each.reevaluating for each in self._hooks)

    def _take_gradients(
        self, positions: Sequence[int], names: Iterable[str], shared: Mapping[int, float] | None = None
    ) -> None:
        """Take gradients of some optimizers, each divided by its loss scaler's factor; some norms are known already."""
        if not self._draft.norms_taken:
            return
        ledger = self._gauges.ledger
        for some, factor in self._holdings.by_factor(positions, names, self._scale_tap):
            known = [position for position in some if position in shared] if shared else []
            if shared and known:
                ledger.take_over(known, np.array([shared[position] for position in known]), factor)
            ledger.gradients(some, self._draft.sampled, factor)
        self._tracer.gradients_taken(ledger)

    @property
    def _resting(self) -> bool:
        """Whether hooks of instruments that sleep may be off: the call of the model tells that a step has begun."""
        return self._last_update is not None and not self._rootless

    def _open_draft(self) -> Draft:
        """The step that what is logged now belongs to."""
        done = self._done
        return self._draft if done is None or self._begun() else done

    def _begun(self) -> bool:
        """Whether the forward or backward pass of the step in progress has begun."""
        return self._forward_began or self._backward_began or self._gauges.touched()

    def _failed(self, part: str, error: Exception) -> None:
        """Go on without the part that failed."""
        if part == "measuring":
            self._measuring = self._asleep = False
            self._draft.norms_taken = self._draft.sampled = False
            self._draft.examination = None
            with suppress(Exception):  # whatever it is, it failed once already
                self._gauges.ledger.sums.clear()  # in which this rank has missed its turn
                self._gauges.ledger.discard()
                self._gauges.arm(self._draft, False)
        if part == PART:
            with suppress(Exception):
                self._witness.give_up()
        with suppress(Exception):  # not even telling of a failure may end the training
            self._journal.fail(part, error)
