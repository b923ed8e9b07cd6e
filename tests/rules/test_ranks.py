import numpy as np
from tests.rules.conftest import digest_columns

from auscult.rules.ranks import (
    LaggingRank,
    NonFiniteOnOneRank,
    OutlierRank,
    ReplicasDiffer,
    SameData,
    UnequalBatches,
)

STEPS = 320


def columns(metric, ranks, every=1, **others):
    table = {(metric, str(rank)): np.asarray(each) for rank, each in enumerate(ranks)}
    return digest_columns({**table, **{(name, ""): np.asarray(each) for name, each in others.items()}}, every=every)


def noise(seed, level=1.0, scale=0.05):
    return level * np.exp(np.random.default_rng(seed).normal(0, scale, STEPS))


class TestReplicasDiffer:
    def test_silent_while_all_bits_agree(self):
        assert not list(ReplicasDiffer().check(columns("rank_differs", np.zeros((4, STEPS)))))

    def test_names_the_minority_and_the_step(self):
        differs = np.zeros((4, STEPS))
        differs[2, 150:] = 1
        (finding,) = ReplicasDiffer().check(columns("rank_differs", differs))
        assert (finding.severity, finding.step) == ("critical", 150)
        assert "rank 2" in finding.summary and [each.path for each in finding.evidence] == ["2"]

    def test_of_two_replicas_names_none(self):
        differs = np.zeros((2, STEPS))
        differs[:, 70:] = 0.5
        (finding,) = ReplicasDiffer().check(columns("rank_differs", differs))
        assert finding.step == 70 and "no majority" in finding.summary and len(finding.evidence) == 2

    def test_from_the_start_it_is_about_the_start(self):
        (finding,) = ReplicasDiffer().check(columns("rank_differs", np.full((2, STEPS), 0.5)))
        assert finding.step == 0 and "DistributedDataParallel" in finding.advice[0]


class TestNonFiniteOnOneRank:
    def test_silent_where_all_become_non_finite_together(self):
        losses = np.ones((3, STEPS))
        losses[:, 100:] = np.nan
        assert not list(NonFiniteOnOneRank().check(columns("rank_loss", losses)))

    def test_names_the_first_rank_although_all_follow(self):
        losses = np.ones((3, STEPS))
        losses[1, 100:] = np.inf
        losses[:, 101:] = np.nan
        (finding,) = NonFiniteOnOneRank().check(columns("rank_loss", losses))
        assert finding.step == 100 and "rank 1" in finding.summary and "2 of 3" in finding.summary
        assert [(each.path, each.value) for each in finding.evidence] == [("1", np.inf)]

    def test_silent_on_finite_losses(self):
        assert not list(NonFiniteOnOneRank().check(columns("rank_loss", np.ones((3, STEPS)))))


class TestSameData:
    def test_silent_with_a_sampler(self):
        assert not list(SameData().check(columns("rank_same_batch", np.zeros((2, 20)), every=16)))

    def test_every_rank_with_the_same_batches(self):
        (finding,) = SameData().check(columns("rank_same_batch", np.ones((2, 20)), every=16))
        assert finding.severity == "warning" and "DistributedSampler" in finding.advice[0] and finding.step == 0

    def test_silent_where_one_batch_is_learned_by_heart(self):
        repeated = np.array([0.0, *np.ones(19)])
        told = columns("rank_same_batch", np.ones((2, 20)), every=16, repeated_batch=repeated)
        assert not list(SameData().check(told))

    def test_silent_where_it_happened_once(self):
        same = np.zeros((2, 20))
        same[:, 3] = 1
        assert not list(SameData().check(columns("rank_same_batch", same, every=16)))


class TestUnequalBatches:
    def test_silent_on_equal_numbers(self):
        assert not list(UnequalBatches().check(columns("rank_passes", np.full((2, STEPS), 4.0))))

    def test_a_rank_that_left(self):
        left = np.zeros((2, STEPS))
        left[1, -1] = 1
        (finding,) = UnequalBatches().check(columns("rank_left", left))
        assert finding.step == STEPS - 1 and "Rank 1" in finding.summary

    def test_a_rank_that_accumulates_more(self):
        passes = np.full((3, STEPS), 4.0)
        passes[2] = 6
        (finding,) = UnequalBatches().check(columns("rank_passes", passes))
        assert "Rank 2" in finding.summary and "1.5" in finding.summary and finding.evidence[0].value == 6
        assert finding.step == finding.evidence[0].step == STEPS - 128  # the last two blocks


class TestLaggingRank:
    def told(self, slow, whole=0.2):
        times = [noise(0, 0.1), noise(1, 0.1), noise(2, 0.1 * slow)]
        return columns("rank_forward_time", times, step_time=noise(3, whole))

    def test_silent_on_noise(self):
        assert not list(LaggingRank().check(self.told(1.0)))

    def test_names_the_slow_rank(self):
        (finding,) = LaggingRank().check(self.told(2.0))
        assert "rank 2" in finding.summary and finding.evidence[0].path == "2"
        assert abs(finding.evidence[0].value - 0.2) < 0.02
        assert finding.step == finding.evidence[0].step == STEPS - 128

    def test_silent_where_it_does_not_matter(self):
        assert not list(LaggingRank().check(self.told(2.0, whole=20.0)))


class TestOutlierRank:
    def test_silent_on_batches_of_one_distribution(self):
        losses = [noise(rank, 2.0, 0.3) for rank in range(4)]
        assert not list(OutlierRank().check(columns("rank_loss", losses)))

    def test_names_the_rank_with_other_data(self):
        losses = [noise(0), noise(1), noise(2), noise(3, 3.0)]
        (finding,) = OutlierRank().check(columns("rank_loss", losses))
        assert "rank 3" in finding.summary and abs(finding.evidence[0].value - 3) < 0.2
        assert finding.step == finding.evidence[0].step == STEPS - 256 and finding.evidence[0].path == "3"

    def test_of_two_ranks_none_is_the_odd_one(self):
        assert not list(OutlierRank().check(columns("rank_loss", [noise(0), noise(1, 3.0)])))

    def test_silent_after_it_is_over(self):
        losses = [noise(0), noise(1), np.where(np.arange(STEPS) < 128, 3.0, 1.0)]
        assert not list(OutlierRank().check(columns("rank_loss", losses)))
