"""Rules about many ranks: R001 replicas-differ to R006 outlier-rank."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from auscult.core.digest import ChannelIndex, Digest
from auscult.core.finding import Evidence, Finding
from auscult.rules.channels import Logs, listing, recent_start, state_of
from auscult.rules.rule import Rule

ROWS = 4  # sampled steps
SLOWER, LARGER, OFTENER = np.log10(1.5), np.log10(2.0), np.log10(1.25)
SLOW_BLOCKS, LOSS_BLOCKS = 2, 4
NOTICED, SECONDS = 0.1, 5e-3  # of the step time, and at least


@lru_cache(maxsize=8)
def _labels(index: ChannelIndex, metric: str) -> tuple[str, ...]:
    """The ranks that a metric was recorded of, in order."""
    return tuple(sorted((each.path for each in index.channels if each.metric == metric), key=int))


def _of_ranks(digest: Digest, metric: str) -> list[tuple[str, Any]]:
    """Rank and state, for every rank of which a metric was observed."""
    states = ((rank, state_of(digest, metric, rank)) for rank in _labels(digest.index, metric))
    return [(rank, state) for rank, state in states if state is not None]


def _named(ranks: Sequence[str]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {listing(ranks)}"


def _apart(known: Sequence[tuple[str, Any]], blocks: int) -> Logs | None:
    """By how many decades each rank lies above the median of the others, in the last blocks `(W, B)`."""
    if len(known) < 2:
        return None
    rings = np.array([state["recent"][-blocks:] for _, state in known])
    if np.isnan(rings).any():
        return None
    others = [np.median(np.delete(rings, rank, axis=0), axis=0) for rank in range(len(known))]
    return rings - np.array(others)


class ReplicasDiffer(Rule):
    """Ranks that should hold the same parameters hold different ones.

    What it means:
        Every replica of a parameter makes the same update from the same gradient, so all of them stay equal to the last
        bit. They are not: each rank trains a model of its own.

    Why it hurts:
        Gradients are averaged over models that differ, and what is saved is one of them. Nothing fails, so it is
        usually found when a checkpoint behaves unlike the run.

    How it is decided:
        The bits of all parameters are summed up on every rank after each measured update and compared: exact, from the
        first step on. Of three replicas or more, the ones that do not agree with most are named.

    What to try:
        Look for what only some ranks do: an update under `if rank == 0`, an unsynchronised weight edit, random numbers
        in the update, a checkpoint that only one rank loaded, faulty memory. Without DistributedDataParallel, broadcast
        the parameters at the start and average all gradients.

    Not reported when:
        No parameter is held by two ranks (plain FSDP2).

    References:
        PyTorch, DistributedDataParallel: replicas are assumed to be equal and are not compared.
    """

    code: ClassVar[str] = "R001"
    name: ClassVar[str] = "replicas-differ"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        known = _of_ranks(digest, "rank_differs")
        off = [(rank, state) for rank, state in known if state["maximum"] > 0]
        if not off:
            return
        sure = [(rank, state) for rank, state in off if state["maximum"] == 1]
        step = min(int(state["maximum_at"]) for _, state in off)
        told = sure or off
        first = min(int(state["first_step"]) for _, state in known)
        who = (
            f"{_named([rank for rank, _ in sure])}: most replicas agree on others"
            if sure
            else "no majority tells whose"
        )
        since = "from the first measured step on" if step == first else f"since step {step}"
        yield Finding(
            self.code,
            self.name,
            "critical",
            "",
            step,
            summary=f"Replicas of the same parameters differ {since} ({who}).",
            evidence=tuple(
                Evidence("rank_differs", rank, int(state["maximum_at"]), float(state["maximum"]), 0.0)
                for rank, state in told[:4]
            ),
            advice=(
                "Look for what only some ranks do to parameters: a branch on the rank around the update, a checkpoint "
                "that only one rank loaded, random numbers in the update."
                if step > first
                else "Wrap the model in DistributedDataParallel, or broadcast the parameters from rank 0 before "
                "training and average all gradients.",
                "Nothing to do if ranks train apart on purpose between averages (local SGD): ignore R001.",
            ),
            phase="update",
            ruled_out=("Not rounding: replicas that do the same agree to the last bit.",),
            confidence=1.0,
        )


class NonFiniteOnOneRank(Rule):
    """The loss became non-finite on some ranks while it was finite on others.

    What it means:
        What went wrong went wrong in the data or in the computation of these ranks; averaging the gradients spreads it
        to all of them within the same step.

    Why it hurts:
        One step later every rank is NaN, and the trace is lost.

    How it is decided:
        At the first measured step at which any rank logged a loss that is not finite, at least one other logged a
        finite one. Exact.

    What to try:
        Look at the batch that this rank had at this step: an empty sample, a label out of range, a division by a count
        of 0. If it is always the same machine, suspect its hardware.

    Not reported when:
        All ranks became non-finite at the same step (L001), or ranks log no loss.

    References:
        Llama team, The Llama 3 Herd of Models (2024), section 3.3.4: silent data corruption on single accelerators.
    """

    code: ClassVar[str] = "R002"
    name: ClassVar[str] = "non-finite-on-one-rank"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        known = _of_ranks(digest, "rank_loss")
        hit = [(rank, state) for rank, state in known if state["nonfinite_at"] >= 0]
        if not hit:
            return
        step = min(int(state["nonfinite_at"]) for _, state in hit)
        first = [(rank, state) for rank, state in hit if state["nonfinite_at"] == step]
        if len(first) == len(known):
            return
        yield Finding(
            self.code,
            self.name,
            "critical",
            "",
            step,
            summary=f"The loss became non-finite on {_named([rank for rank, _ in first])} at step {step}; on the other "
            f"{len(known) - len(first)} of {len(known)} ranks it was finite.",
            evidence=tuple(Evidence("rank_loss", rank, step, float(state["nonfinite"])) for rank, state in first[:4]),
            advice=(
                f"Look at the batch that {_named([rank for rank, _ in first])} had at step {step}: empty samples, "
                "labels out of range, divisions by a count of 0.",
                "If it is the same machine again and again, suspect its hardware.",
            ),
            phase="loss",
            ruled_out=("Not the parameters: they are the same on all ranks, and others had a finite loss.",),
            confidence=0.95,
        )


class SameData(Rule):
    """Several ranks are given the same batches.

    What it means:
        The ranks read the data in the same order, so their gradients are equal and averaging them changes nothing.

    Why it hurts:
        The run costs as many machines as there are ranks and learns what one would have.

    How it is decided:
        At each of the sampled steps, four at least, the first tensor that the model was called with was the same on
        this rank and on another one.

    What to try:
        Give the loader `sampler=DistributedSampler(dataset)` and call `sampler.set_epoch(epoch)`; seed the shuffling of
        an iterable dataset by rank and worker.

    Not reported when:
        Ranks share a batch by design (tensor parallelism), or every step has the same batch (D005).

    References:
        PyTorch, torch.utils.data.distributed.DistributedSampler.
    """

    code: ClassVar[str] = "R003"
    name: ClassVar[str] = "same-data-on-ranks"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        known = _of_ranks(digest, "rank_same_batch")
        same = [(rank, state) for rank, state in known if state["rows"] >= ROWS and state["minimum"] == 1]
        repeated = state_of(digest, "repeated_batch")
        constant = repeated is not None and repeated["rows"] - repeated["zeros"] >= repeated["rows"] - 1
        if len(same) < 2 or constant:
            return
        step = min(int(state["first_step"]) for _, state in same)
        rows = min(int(state["rows"]) for _, state in same)
        yield Finding(
            self.code,
            self.name,
            "warning",
            "",
            step,
            summary=f"{len(same)} of {len(known)} ranks were given the same batch as another one at each of {rows} "
            "steps looked at.",
            evidence=tuple(Evidence("rank_same_batch", rank, step, 1.0, 0.0) for rank, _ in same[:4]),
            advice=(
                "Use DataLoader(dataset, sampler=DistributedSampler(dataset)) and call sampler.set_epoch(epoch).",
                "For an iterable dataset: let each rank and worker take its own part of the stream.",
            ),
            phase="data",
            ruled_out=("Not one batch over and over: it changes from step to step.",),
            confidence=0.95,
        )


class UnequalBatches(Rule):
    """Ranks have different numbers of batches.

    What it means:
        A rank has closed its run while others go on, or makes another number of passes for each update.

    Why it hurts:
        Whoever goes on waits in the next collective for a rank that does not come; and samples weigh differently.

    How it is decided:
        A rank left while others went on; or the passes of a rank between two rows were 1.25 times those of the others
        or more, or as much fewer, in each of the last two blocks.

    What to try:
        `drop_last=True` or a sampler that pads; `torch.distributed.algorithms.Join` where numbers have to differ.

    Not reported when:
        All ranks leave at the same step.

    References:
        PyTorch, torch.distributed.algorithms.join.
    """

    code: ClassVar[str] = "R004"
    name: ClassVar[str] = "unequal-batches"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        left = [(rank, state) for rank, state in _of_ranks(digest, "rank_left") if state["maximum"] > 0]
        if left:
            step = min(int(state["maximum_at"]) for _, state in left)
            who = _named([rank for rank, _ in left]).capitalize()
            what = f"{who} had no more batches at step {step} while others went on."
            evidence = tuple(Evidence("rank_left", rank, step, 1.0, 0.0) for rank, _ in left[:4])
            yield self._finding(step, what, evidence, 1.0)
            return
        known = _of_ranks(digest, "rank_passes")
        apart = _apart(known, SLOW_BLOCKS)
        if apart is None:
            return
        for (rank, state), offsets in zip(known, apart, strict=True):
            if (offsets >= OFTENER).all() or (offsets <= -OFTENER).all():
                step, times = recent_start(state, -SLOW_BLOCKS), 10 ** float(np.median(offsets))
                what = f"Rank {rank} makes {times:.2g} times as many passes for an update as the other ranks."
                yield self._finding(step, what, (Evidence("rank_passes", rank, step, float(state["last"])),), 0.9)
                return

    def _finding(self, step: int, summary: str, evidence: tuple[Evidence, ...], confidence: float) -> Finding:
        return Finding(
            self.code,
            self.name,
            "warning",
            "",
            step,
            summary=summary,
            evidence=evidence,
            advice=(
                "Give every rank the same number of batches: drop_last=True, or a sampler that pads.",
                "Where numbers have to differ, train inside of torch.distributed.algorithms.Join.",
            ),
            phase="data",
            confidence=confidence,
        )


class LaggingRank(Rule):
    """One rank is slower than the others, and all of them wait for it.

    What it means:
        Loading its data and its forward pass take this rank longer; the others wait for it in the backward pass.

    Why it hurts:
        A synchronous run is as fast as its slowest rank.

    How it is decided:
        The median time from the update before to the beginning of the backward pass was 1.5 times that of the other
        ranks or more, and longer by a tenth of the step time and by 5 ms, in each of the last two blocks.

    What to try:
        Compare its data loading (workers, local disk) and its device (clock, temperature, other jobs).

    Not reported when:
        The ranks wait for each other within the forward pass (FSDP2), where it cannot be seen; or a rank is slow in the
        backward pass alone.

    References:
        Jiang et al., MegaScale (NSDI 2024), section 5: stragglers.
    """

    code: ClassVar[str] = "R005"
    name: ClassVar[str] = "lagging-rank"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        known, whole = _of_ranks(digest, "rank_forward_time"), state_of(digest, "step_time")
        apart = _apart(known, SLOW_BLOCKS)
        if apart is None or whole is None:
            return
        place = int(apart.min(axis=1).argmax())
        rank, state = known[place]
        own = 10 ** state["recent"][-SLOW_BLOCKS:]
        longer = own - own / 10 ** apart[place]
        if not (apart[place] >= SLOWER).all() or longer.min() < max(
            SECONDS, NOTICED * 10 ** float(whole["recent"][-1])
        ):
            return
        step = recent_start(state, -SLOW_BLOCKS)
        yield Finding(
            self.code,
            self.name,
            "warning",
            "",
            step,
            summary=f"All ranks wait for rank {rank}: it takes {own[-1]:.3g} s to the backward pass, "
            f"{10 ** float(apart[place, -1]):.2g} times as long as the others.",
            evidence=(
                Evidence("rank_forward_time", rank, step, float(own[0]), float(10**SLOWER * (own[0] - longer[0]))),
            ),
            advice=(
                f"Compare the data loading of rank {rank} with the others': workers, storage, length of its samples.",
                "Look at its device: clock, temperature, other jobs on the machine.",
            ),
            phase="forward",
            confidence=0.8,
        )


class OutlierRank(Rule):
    """The loss of one rank is unlike that of all others.

    What it means:
        The model is the same on all ranks, so the data are not: this rank sees another distribution, or computes
        wrongly.

    Why it hurts:
        Its gradients pull the average elsewhere, or are wasted.

    How it is decided:
        Of three ranks or more, the median loss of one was twice that of the others or more, or half of it or less, in
        each of the last four blocks.

    What to try:
        Compare its shard of the data with the others'; shuffle before sharding. Run a batch of it on another machine.

    Not reported when:
        There are two ranks only, of which none is the odd one out.

    References:
        Llama team, The Llama 3 Herd of Models (2024), section 3.3.4.
    """

    code: ClassVar[str] = "R006"
    name: ClassVar[str] = "outlier-rank"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, about the rank that is furthest off."""
        known = _of_ranks(digest, "rank_loss")
        apart = _apart(known, LOSS_BLOCKS)
        if apart is None or len(known) < 3:
            return
        steady = np.maximum(apart.min(axis=1), (-apart).min(axis=1))
        place = int(steady.argmax())
        if steady[place] < LARGER:
            return
        rank, state = known[place]
        step, value = recent_start(state, -LOSS_BLOCKS), float(state["recent_mean"][-LOSS_BLOCKS])
        times = 10 ** float(np.median(apart[place]))
        yield Finding(
            self.code,
            self.name,
            "warning",
            "",
            step,
            summary=f"The loss of rank {rank} is {times:.2g} times that of the other ranks.",
            evidence=(Evidence("rank_loss", rank, step, value, value / times),),
            advice=(
                f"Compare the data of rank {rank} with the others'; shuffle before the data are split over ranks.",
                "Run one of its batches on another machine: the loss has to be the same.",
            ),
            phase="data",
            ruled_out=("Not the parameters: they are the same on all ranks unless R001 says otherwise.",),
            confidence=0.7,
        )
