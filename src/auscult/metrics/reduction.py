"""Reduction: the numbers of all ranks as one float64 vector, so that one sum over ranks tells them all.

Knows nothing of process groups: a `SlotTable` says where each number stands, `encode` fills in what one rank knows,
`decode` reads the sum. Squares of norms add up over shards; of replicas only the lowest rank counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscult.core.sink import observed, unobserved

Array = NDArray[np.float64]

FACTS = (
    "present", "step", "step_time", "overhead_time", "forward_time", "memory", "passes", "samples", "loss",
    "loss_known", "finite", "batch", "batch_known", "norms_every", "samples_every", "news", "stop", "left",
)  # fmt: skip
"""What each rank says of itself, one number each, 0 where it has nothing to say."""
KINDS = 3
_HEAD = 3


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """What one rank, or all of them together, know of a logged step and of those since the one before.

    Entries of rows that were not observed are marked as in `auscult.core.sink`.

    Attributes:
        norms: float64 `(3, P)` of gradient, parameter and update: of the local shard, or of the whole.
        moments: float64 `(3, 2, P)`, their means and Bessel-corrected stds; None on a step that is not sampled.
        others: float64 `(S,)`, what else was sampled; None likewise.
        user: `(N, U, 2)`: of N steps and U channels that users logged, numerator and denominator.
        facts: `(F,)` of one rank, or `(W, F)`.
        prints: Fingerprints of the parameters, uint64 `(K,)` by kind of sharding, or `(W, K)`.
        kept: Of the rank that writes: number of steps up to the last that is on disk, and of the segment.
    """

    norms: Array
    moments: Array | None
    others: Array | None
    user: Array
    facts: Array
    prints: NDArray[np.uint64]
    kept: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class SlotTable:
    """Which rank counts for which shard of which parameter.

    Attributes:
        rank: This rank.
        owned: `(P,)`, whether this rank counts for the shard that it holds.
        shards: `(P,)`, in how many different shards each parameter lies.
        replicas: uint64-like int `(K, W)`: ranks with the same number hold the same shards of a kind; -1 holds none.
        sizes: `(P,)`, elements of the local shard.
        totals: `(P,)`, elements of the whole parameter.
        means: `(S,)`, of what else is sampled: whether it is a mean over ranks, otherwise a sum.
        given: `(S,)`, whether this rank contributes to it.
    """

    rank: int
    owned: NDArray[np.bool_]
    shards: NDArray[np.int64]
    replicas: NDArray[np.int64]
    sizes: Array
    totals: Array
    means: NDArray[np.bool_]
    given: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        rank: int,
        kinds: Sequence[int],
        coordinates: Sequence[Sequence[Sequence[int] | None]],
        sizes: Sequence[int],
        totals: Sequence[int],
        across: Sequence[str],
    ) -> "SlotTable":
        """The table of one rank.

        Args:
            rank: The rank.
            kinds: For each of P parameters the kind of its sharding.
            coordinates: For each of W ranks and K kinds, which shard it holds; None where it holds none.
            sizes: Elements of each local shard.
            totals: Elements of each parameter.
            across: For each of S other numbers how ranks become one: `mean`, `sum` or `rank0`.
        """
        replicas = np.full((max(kinds, default=0) + 1, len(coordinates)), -1, np.int64)
        for kind in range(len(replicas)):
            numbers: dict[tuple[int, ...], int] = {}
            for other, held in enumerate(coordinates):
                shard = held[kind]
                if shard is not None:
                    replicas[kind, other] = numbers.setdefault(tuple(shard), len(numbers))
        first = np.array([row[rank] >= 0 and int((row == row[rank]).argmax()) == rank for row in replicas])
        places = np.array(kinds, np.int64)
        return cls(
            rank,
            first[places],
            (replicas.max(axis=1) + 1)[places],
            replicas,
            np.array(sizes, np.float64),
            np.array(totals, np.float64),
            np.array([each != "sum" for each in across], np.bool_),
            np.array([each != "rank0" or rank == 0 for each in across], np.bool_),
        )

    @property
    def world(self) -> int:
        """Number of ranks W."""
        return self.replicas.shape[1]

    def width(self, sampled: bool, steps: int, named: int) -> int:
        """Numbers in the vector: 3 + 6 P + W (F + 2 K) + 2 N U, and on a sampled step 9 P + 2 S more.

        Args:
            sampled: Whether the step is sampled.
            steps: Steps N since the last vector, this one included.
            named: Channels U that users log.
        """
        parameters, kinds = len(self.owned), len(self.replicas)
        always = _HEAD + 2 * KINDS * parameters + self.world * (len(FACTS) + 2 * kinds) + 2 * steps * named
        return always + (3 * KINDS * parameters + 2 * len(self.means) if sampled else 0)

    def encode(self, sheet: Sheet) -> Array:
        """What this rank adds to the sum, `(width,)`."""
        counted = observed(sheet.norms) & self.owned
        facts = np.zeros((self.world, len(FACTS)))
        facts[self.rank] = sheet.facts
        prints = np.zeros((self.world, len(self.replicas), 2))
        held = self.replicas[:, self.rank] >= 0
        prints[self.rank, :, 0] = np.where(held, sheet.prints >> np.uint64(32), 0)
        prints[self.rank, :, 1] = np.where(held, sheet.prints & np.uint64(2**32 - 1), 0)
        parts = [
            np.array([1, *sheet.kept]),
            np.where(counted, sheet.norms, 0.0) ** 2,
            counted,
            facts,
            prints,
            sheet.user,
        ]
        if sheet.moments is not None and sheet.others is not None:
            parts += self._pooled(sheet.moments)
            told = observed(sheet.others) & self.given
            parts += [np.where(told, sheet.others, 0.0), told]
        return np.concatenate([np.asarray(each, np.float64).reshape(-1) for each in parts])

    def decode(self, total: Array, sampled: bool, steps: int, named: int) -> Sheet:
        """What the sum over all ranks says.

        Args:
            total: `(width,)`, as encoded by every rank, added up.
            sampled: As for `width`.
            steps: Likewise.
            named: Likewise.

        Raises:
            ValueError: if the sum is not one of this table.
        """
        parameters, kinds = len(self.owned), len(self.replicas)
        shapes = [(_HEAD,), (KINDS, parameters), (KINDS, parameters), (self.world, len(FACTS)), (self.world, kinds, 2)]
        shapes.append((steps, named, 2))
        if sampled:
            shapes += [(KINDS, 2, parameters), (KINDS, parameters), (len(self.means),), (len(self.means),)]
        if len(total) != self.width(sampled, steps, named) or total[0] != self.world:
            raise ValueError(f"a sum of {len(total)} numbers over {total[0]:.0f} ranks is not that of this table")
        ends = np.cumsum([int(np.prod(each)) for each in shapes])
        parts = [each.reshape(shape) for each, shape in zip(np.split(total, ends[:-1]), shapes, strict=True)]
        head, squares, counted, facts, prints, user = parts[:6]
        kept = int(head[1]), int(head[2])
        norms = _where(counted == self.shards, np.sqrt(squares))
        words = prints.astype(np.uint64)
        whole = words[..., 0] << np.uint64(32) | words[..., 1]
        if not sampled:
            return Sheet(norms, None, None, user, facts, whole, kept)
        sums, known, values, told = parts[6:]
        with np.errstate(divide="ignore", invalid="ignore"):
            means = sums[:, 0] / self.totals
            deviations = np.maximum(sums[:, 1] - self.totals * means**2, 0.0)
            stds = np.sqrt(deviations / (self.totals - 1))
            others = values / np.where(self.means, told, 1.0)
        seen = known == self.shards
        moments = np.stack([_where(seen, means), _where(seen & (self.totals > 1), stds)], axis=1)
        return Sheet(norms, moments, _where(told > 0, others), user, facts, whole, kept)

    def _pooled(self, moments: Array) -> list[Array]:
        """Sum and sum of squares of every shard, from its mean and std, and whether they are known."""
        means, stds = moments[:, 0], moments[:, 1]
        empty = self.sizes == 0
        known = (observed(np.ascontiguousarray(means)) | empty) & self.owned
        spread = np.where(self.sizes > 1, (self.sizes - 1) * np.where(self.sizes > 1, stds, 0.0) ** 2, 0.0)
        counts = known & ~empty
        sums = np.where(counts, self.sizes * means, 0.0)
        squares = np.where(counts, spread + self.sizes * means**2, 0.0)
        return [np.stack([sums, squares], axis=1), known.astype(np.float64)]

    def minority(self, prints: NDArray[np.uint64]) -> Array:
        """Which ranks hold other parameters than their replicas.

        Args:
            prints: `(W, K)`, as decoded.

        Returns:
            `(W,)`: 0 for a rank that agrees with all its replicas, 1 for one whose replicas mostly agree on something
            else, 0.5 where no majority tells who is right; not observed where it has no replica.
        """
        found = unobserved(self.world)
        for kind, row in enumerate(self.replicas):
            for number in range(int(row.max()) + 1):
                ranks = np.flatnonzero(row == number)
                if len(ranks) < 2:
                    continue
                values, inverse, counts = np.unique(prints[ranks, kind], return_inverse=True, return_counts=True)
                most = counts.max()
                clear = len(values) == 1 or (counts == most).sum() == 1
                off = np.where(counts[inverse] == most, 0.0, 1.0) if clear else np.full(len(ranks), 0.5)
                before = np.where(observed(found[ranks]), found[ranks], 0.0)
                found[ranks] = np.maximum(before, off)
        return found


def _where(known: NDArray[np.bool_], values: Array) -> Array:
    """The values, marked as not observed where they are not known."""
    return np.where(known, values, unobserved(*known.shape))
