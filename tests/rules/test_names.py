"""Rules read no names: with other names for the same tensors and modules they find the same."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from auscult.clinic.trial import training as training_of
from auscult.core.anatomy import Anatomy, Feed
from auscult.core.digest import ChannelIndex, Digest, digest_run
from auscult.core.finding import Finding
from auscult.core.run import Module
from auscult.core.sink import Channel
from auscult.rules.registry import asked, judge, judgement
from auscult.store.reader import load


def renamed(digest: Digest, seed: int) -> tuple[Digest, dict[str, str]]:
    """The digest with every module, parameter and group called something else; what lies in what stays."""
    segment = digest.segments[-1]
    paths = {each.path for each in (*segment.parameters, *segment.modules)} | {each.path for each in digest.channels}
    parts = sorted({part for path in paths for part in path.split(".") if part})
    names = np.random.default_rng(seed).permutation([f"n{each}" for each in range(len(parts))]).tolist()
    table = dict(zip(parts, names, strict=True)) | {"": ""}

    def new(path: str) -> str:
        return ".".join(table[part] for part in path.split("."))

    segments = tuple(
        replace(
            each,
            parameters=tuple(
                replace(some, path=new(some.path), aliases=(), group=some.group and new(some.group))
                for some in each.parameters
            ),
            modules=tuple(replace(some, path=new(some.path), type="Thing") for some in each.modules),
        )
        for each in digest.segments
    )
    channels = tuple(Channel(each.metric, new(each.path)) for each in digest.channels)
    origins = tuple(
        replace(each, path=each.path and new(each.path), parameters=tuple(map(new, each.parameters)))
        for each in digest.origins
    )
    other = replace(
        digest,
        segments=segments,
        index=ChannelIndex(channels),
        origins=origins,
        anatomy=digest.anatomy and renamed_anatomy(digest.anatomy, new),
    )
    return other, {path: new(path) for path in paths}


def renamed_anatomy(anatomy: Anatomy, new: Callable[[str], str]) -> Anatomy:
    return replace(
        anatomy,
        feeds=tuple(Feed(new(each.source), new(each.target)) for each in anatomy.feeds),
        sums_to_one=tuple(map(new, anatomy.sums_to_one)),
        given_shares=tuple(map(new, anatomy.given_shares)),
    )


def sick(training, kind: str) -> None:
    weights = [f"layers.{layer}.weight" for layer in range(4)]
    if kind == "large updates":
        for each in weights:
            training.column("update_norm", each)[:] = 2.0
    elif kind == "nan":
        training.column("grad_norm", weights[2])[100:] = np.nan
        training.column("param_norm", weights[2])[101:] = np.nan
    elif kind == "explosion":
        for each in weights[1:]:
            training.column("grad_norm", each)[130:] *= 1e5
    elif kind == "dead":
        for each in training.parameters:
            training.column("grad_norm", each.path)[70:] = 0.0
            training.column("update_norm", each.path)[70:] = 0.0
    elif kind == "stuck":
        training.column("update_norm", weights[1])[:] = 0.0
    elif kind == "clipped":
        training.columns["clip_coefficient", ""] = np.full(320, 0.01)
        training.columns["clip_ratio", ""] = np.full(320, 100.0)
        training.column("grad_norm", "layers.2.bias")[:] = 1e3


@pytest.mark.parametrize("kind", ["healthy", "large updates", "nan", "explosion", "dead", "stuck", "clipped"])
def test_other_names_give_the_same_findings(training, kind):
    sick(training, kind)
    leaves = [f"layers.{layer}" for layer in range(4)]
    training.modules = (
        Module("", "Net", False),
        *(Module(each, "Linear", True, "affine") for each in leaves),
    )
    digest = training.digest()
    other, table = renamed(digest, 3)
    found, again = judge(digest, digest), judge(other, other)
    assert (kind == "healthy") == (not found)
    assert_alike(found, again, table)


def assert_alike(found: list[Finding], again: list[Finding], table: dict[str, str]) -> None:
    """The same findings, but for what things are called; in the same order."""
    for one, two in zip(found, again, strict=True):
        assert (one.code, one.severity, one.status, one.step, one.confidence, one.phase) == (
            two.code, two.severity, two.status, two.step, two.confidence, two.phase,
        )  # fmt: skip
        assert table.get(one.path, one.path) == two.path
        assert (one.cause and (one.cause[0], table.get(one.cause[1], one.cause[1]))) == two.cause
        for left, right in zip(one.evidence, two.evidence, strict=True):
            assert (left.metric, left.step, table.get(left.path, left.path)) == (right.metric, right.step, right.path)
            assert left.value == right.value or left.value != left.value


@pytest.mark.parametrize("name", ["at-gv", "tdc-const-init", "tdc-hidden-softmax", "pt-gamma", "ips-5"])
def test_runs_of_the_clinic_are_judged_alike_by_any_other_name(name, tmp_path):
    training_of(name, "faulty").train(tmp_path / name, 0)
    closed, now = digest_run(load(tmp_path / name))
    (other, table), (others_now, _) = renamed(closed, 5), renamed(now, 5)
    found, again = (judgement(asked(*each), ())[0] for each in ((closed, now), (other, others_now)))
    assert found
    assert_alike(found, again, table)
