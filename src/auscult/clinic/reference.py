"""Reference: doctors that know no threshold: one always alarms, one guesses, one has learned from the cases."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from auscult.clinic.score import CaseFacts, Doctor, Opinion, is_healthy
from auscult.clinic.trial import Trial
from auscult.core.errors import MissingExtra

HEALTHY = "healthy"
DEPTH = 8
LEAF = 3


def always(trial: Trial) -> Opinion:
    """Alarms on every run and names nothing."""
    return Opinion(alarm=True)


def guess(cases: Sequence[CaseFacts], admitted: Collection[str]) -> Doctor:
    """Alarms on every run and names the classes that are most frequent among the other cases."""
    classes = {each.name: each.root_cause for each in cases if each.name in admitted}

    def opinion(trial: Trial) -> Opinion:
        counts = Counter(cause for name, cause in classes.items() if name != trial.case)
        return Opinion(True, causes=tuple((cause,) for cause, _ in counts.most_common()))

    return opinion


class Learned:
    """A small decision tree on the traits of runs, asked only about cases that it has not seen.

    Attributes:
        said: What it says, by case, variant and seed.
        lost_classes: Classes of a single case: they can never be named by a tree that has not seen it.
    """

    def __init__(self, trials: Sequence[Trial], cases: Sequence[CaseFacts], admitted: Collection[str]) -> None:
        """Grow one tree for each case or control, on the runs of all others.

        Args:
            trials: All trials.
            cases: All cases.
            admitted: Names of the cases that count.

        Raises:
            MissingExtra: if scikit-learn is not installed.
        """
        classes = {each.name: each.root_cause for each in cases if each.name in admitted}
        known = [each for each in trials if is_healthy(each, admitted) or each.case in classes]
        labels = [classes[each.case] if each.variant == "faulty" else HEALTHY for each in known]
        counts = Counter(classes.values())
        self.lost_classes = tuple(sorted(name for name, count in counts.items() if count == 1))
        self.said = _ask(known, labels, [each.case for each in known])
        groups = [classes.get(each.case, "") for each in known]
        self._without_class = _ask(known, labels, [group or each.case for group, each in zip(groups, known)])

    def __call__(self, trial: Trial) -> Opinion:
        """What it says of a run, its case left out of what it learned from."""
        return self.said[trial.key]

    def without_class(self, trial: Trial) -> Opinion:
        """What it says of a run, all cases of its class left out of what it learned from."""
        return self._without_class[trial.key]


def false_alarms_by_class(
    doctors: Mapping[str, Doctor], trials: Sequence[Trial], cases: Sequence[CaseFacts], admitted: Collection[str]
) -> dict[str, tuple[int, dict[str, int]]]:
    """How many fixed runs of each class there are, and on how many of them each doctor alarms.

    Args:
        doctors: By name.
        trials: All trials.
        cases: All cases.
        admitted: Names of the cases that count.
    """
    classes = {each.name: each.root_cause for each in cases if each.name in admitted}
    found: dict[str, tuple[int, dict[str, int]]] = {}
    for name in sorted(set(classes.values())):
        runs = [each for each in trials if each.variant == "fixed" and classes.get(each.case) == name]
        found[name] = len(runs), {who: sum(said(each).alarm for each in runs) for who, said in doctors.items()}
    return found


def _ask(trials: Sequence[Trial], labels: Sequence[str], groups: Sequence[str]) -> dict[tuple[str, str, int], Opinion]:
    """What trees say of every trial, each grown on the trials of all other groups."""
    features = np.array([np.nan_to_num(each.features, nan=np.nan, posinf=1e30, neginf=-1e30) for each in trials])
    features = np.clip(features, -1e30, 1e30).astype(np.float32)
    targets, folds = np.array(labels), np.array(groups)
    said: dict[tuple[str, str, int], Opinion] = {}
    for group in dict.fromkeys(groups):
        left_out = folds == group
        if left_out.all():  # there is nothing to learn from
            return {each.key: Opinion(alarm=False) for each in trials}
        tree = _tree().fit(features[~left_out], targets[~left_out])
        for position, chances in zip(np.flatnonzero(left_out).tolist(), tree.predict_proba(features[left_out])):
            ranked = [str(tree.classes_[index]) for index in np.argsort(-chances, kind="stable") if chances[index] > 0]
            causes = tuple((name,) for name in ranked if name != HEALTHY)
            said[trials[position].key] = Opinion(ranked[0] != HEALTHY, causes=causes)
    return said


def _tree() -> Any:
    try:
        from sklearn.tree import DecisionTreeClassifier
    except ImportError:
        raise MissingExtra(
            "Expected scikit-learn to be installed, which the learned reference is made with, but it is not. "
            "Install it: pip install 'auscult[demo]'."
        ) from None
    return DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=LEAF, class_weight="balanced", random_state=0)
