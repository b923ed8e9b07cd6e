"""Every way to clip in torch, heard while a tap is open, against float64 norms taken by hand beforehand."""

import copy
import gc
import inspect
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad, clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm

from auscult.metrics.clipping import SHARED_ELEMENTS, Clip, ClipTap

FUNCTIONS = (clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm)


def model(seed: int = 0) -> nn.Module:
    """A small model whose gradients have a total norm far above 0.5."""
    made = nn.Sequential(nn.Linear(7, 300), nn.Tanh(), nn.Linear(300, 5))
    noise = torch.Generator().manual_seed(seed)
    for each in made.parameters():
        each.grad = torch.randn(each.shape, generator=noise)
    return made


def norm(tensor: Tensor, order: float = 2.0) -> float:
    return float(np.linalg.norm(tensor.detach().double().numpy().ravel(), order))


def truth(parameters: list[nn.Parameter]) -> list[float]:
    return [norm(each.grad) for each in parameters]


class Ear:
    """A tap that notes what it is told, and float64 norms of what the gradients are at that moment."""

    def __init__(self, parameters: list[nn.Parameter], sharing: bool = True) -> None:
        self.clips: list[Clip] = []
        self.before: list[list[float]] = []
        self.after: list[list[float]] = []
        self.shared: list[tuple[list[Tensor], np.ndarray]] = []
        self.tap = ClipTap(parameters, self._before, self._after)
        self.tap.sharing = sharing

    def _before(self, clip: Clip) -> None:
        self.clips.append(clip)
        self.before.append([norm(each.grad) for each in clip.parameters()])
        self.shared.append(clip.shared())

    def _after(self, clip: Clip) -> None:
        assert clip is self.clips[-1]
        self.after.append([norm(each.grad) for each in clip.parameters()])

    def known(self) -> list[int]:
        return [id(each) for each in self.shared[0][0]]

    def __enter__(self) -> "Ear":
        return self

    def __exit__(self, *error: object) -> None:
        self.tap.close()


def bodies() -> list[Callable[..., object]]:
    return [each.__closure__[0].cell_contents for each in FUNCTIONS]


@pytest.fixture(autouse=True)
def torch_is_left_as_it_was() -> Iterator[None]:
    before = bodies()
    yield
    assert bodies() == before


def split(parameters: list[nn.Parameter]) -> None:
    total = get_total_norm([each.grad for each in parameters])
    clip_grads_with_norm_(parameters, 0.5, total)


def deprecated(parameters: list[nn.Parameter]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.clip_grad_norm(parameters, 0.5)


BY_NORM = {
    "late-bound": lambda p: torch.nn.utils.clip_grad_norm_(p, 0.5),
    "imported before": lambda p: clip_grad_norm_(p, 0.5),
    "by its module": lambda p: torch.nn.utils.clip_grad.clip_grad_norm_(p, 0.5),
    "deprecated": deprecated,
    "in two calls": split,
    "generator": lambda p: clip_grad_norm_((each for each in p), 0.5),
    "keywords": lambda p: clip_grad_norm_(parameters=p, max_norm=0.5, norm_type=2.0),
    "foreach": lambda p: clip_grad_norm_(p, 0.5, foreach=True),
    "one by one": lambda p: clip_grad_norm_(p, 0.5, foreach=False),
    "max_norm is a tensor": lambda p: clip_grad_norm_(p, torch.tensor(0.5)),
    "order in words": lambda p: clip_grad_norm_(p, 0.5, norm_type="2"),
}


@pytest.mark.parametrize("way", BY_NORM)
def test_every_way_to_clip_by_norm_is_heard_and_changes_nothing(way: str) -> None:
    bare, watched = model(), model()
    before = truth(list(watched.parameters()))
    BY_NORM[way](list(bare.parameters()))
    with Ear(list(watched.parameters())) as ear:
        BY_NORM[way](list(watched.parameters()))
    assert [torch.equal(a.grad, b.grad) for a, b in zip(bare.parameters(), watched.parameters())] == [True] * 4
    (clip,) = ear.clips
    assert ear.before == [before]
    assert (clip.kind, float(clip.bound), clip.order, clip.others()) == ("norm", 0.5, 2.0, 0)
    assert [id(each) for each in clip.parameters()] == [id(each) for each in watched.parameters()]
    total = float(np.linalg.norm(before))
    assert float(clip.total) == pytest.approx(total, rel=1e-6)
    assert float(clip.coefficient) == pytest.approx(0.5 / (total + 1e-6), rel=1e-6)
    assert ear.after[0] == pytest.approx([each * 0.5 / (total + 1e-6) for each in before], rel=1e-6)


@pytest.mark.parametrize("way", sorted(set(BY_NORM) - {"one by one", "order in words"}))
def test_norms_that_torch_computes_anyway_are_shared(way: str) -> None:
    watched = model()
    before = truth(list(watched.parameters()))
    with Ear(list(watched.parameters())) as ear:
        BY_NORM[way](list(watched.parameters()))
    assert ear.known() == [id(each) for each in watched.parameters()]
    assert ear.shared[0][1] == pytest.approx(before, rel=1e-6)


def test_nothing_is_shared_unless_asked() -> None:
    watched = model()
    with Ear(list(watched.parameters()), sharing=False) as ear:
        clip_grad_norm_(watched.parameters(), 0.5)
    assert ear.known() == []
    assert ear.clips[0].order == 2.0


@pytest.mark.parametrize("order", [1.0, 3.0, float("inf")])
def test_another_order_is_named_and_its_norms_are_not_taken_for_l2(order: float) -> None:
    watched = model()
    flat = torch.cat([each.grad.ravel() for each in watched.parameters()])
    total = norm(flat, order)
    with Ear(list(watched.parameters())) as ear:
        returned = clip_grad_norm_(watched.parameters(), 0.5, norm_type=order)
    (clip,) = ear.clips
    assert clip.total is returned
    assert (clip.order, ear.known()) == (order, [])
    assert float(clip.total) == pytest.approx(total, rel=1e-5)
    assert float(clip.coefficient) == pytest.approx(0.5 / (total + 1e-6), rel=1e-5)


def test_a_total_that_torch_did_not_compute_has_no_order() -> None:
    watched = model()
    with Ear(list(watched.parameters())) as ear:
        clip_grads_with_norm_(watched.parameters(), 0.5, torch.tensor(2.0))
    assert (ear.clips[0].order, ear.known(), float(ear.clips[0].coefficient)) == (None, [], pytest.approx(0.25))


def test_norms_of_gradients_changed_meanwhile_are_not_shared() -> None:
    watched = list(model().parameters())
    with Ear(watched) as ear:
        total = get_total_norm([each.grad for each in watched])
        watched[0].grad.mul_(2.0)
        clip_grads_with_norm_(watched, 0.5, total)
    assert ear.known() == [id(each) for each in watched[1:]]


@pytest.mark.parametrize("foreach", [None, True, False])
def test_clipping_by_value(foreach: bool | None) -> None:
    bare, watched = model(), model()
    before = truth(list(watched.parameters()))
    clip_grad_value_(bare.parameters(), 0.1, foreach=foreach)
    with Ear(list(watched.parameters())) as ear:
        clip_grad_value_((each for each in watched.parameters()), 0.1, foreach=foreach)
        torch.nn.utils.clip_grad_value_(watched.parameters(), clip_value=0.05)
    first, second = ear.clips
    assert (first.kind, first.bound, first.total, first.order, first.coefficient) == ("value", 0.1, None, None, None)
    assert ear.before[0] == before
    assert ear.after[0] == truth(list(bare.parameters()))
    assert ear.before[1] == ear.after[0]
    assert second.bound == 0.05


def test_a_part_of_the_parameters_and_two_calls_per_step() -> None:
    watched = list(model().parameters())
    before = truth(watched)
    with Ear(watched) as ear:
        clip_grad_norm_(watched[:2], 0.5)
        clip_grad_norm_(watched[2:], 0.25)
    first, second = ear.clips
    assert [id(each) for each in first.parameters()] == [id(each) for each in watched[:2]]
    assert ear.shared[0][1] == pytest.approx(before[:2], rel=1e-6)
    assert ear.shared[1][1] == pytest.approx(before[2:], rel=1e-6)
    assert float(first.coefficient) == pytest.approx(0.5 / np.linalg.norm(before[:2]), rel=1e-5)
    assert float(second.coefficient) == pytest.approx(0.25 / np.linalg.norm(before[2:]), rel=1e-5)


def test_parameters_of_another_model_are_ignored_or_counted() -> None:
    watched, other = list(model().parameters()), list(model(1).parameters())
    before = truth(watched)
    with Ear(watched) as ear:
        clip_grad_norm_(other, 0.5)
        clip_grad_norm_([*other, *watched], 0.5)
    (clip,) = ear.clips
    assert clip.others() == 4
    assert ear.shared[0][1] == pytest.approx(before, rel=1e-6)


def test_without_gradients_nothing_is_told() -> None:
    watched = list(model().parameters())
    watched[1].grad = None
    with Ear(watched) as ear:
        clip_grad_norm_([watched[0], watched[0], watched[1]], 0.5)
        clip_grad_norm_(watched[1], 0.5)
        with pytest.warns(UserWarning, match="empty generator"):
            clip_grad_norm_((each for each in ()), 0.5)
    assert [[id(each) for each in clip.parameters()] for clip in ear.clips] == [[id(watched[0])]]


def test_a_call_that_raises_has_clipped_nothing() -> None:
    watched = list(model().parameters())
    watched[0].grad[0, 0] = torch.nan
    gradients = [each.grad.clone() for each in watched]
    with Ear(watched) as ear:
        with pytest.raises(RuntimeError, match="non-finite"):
            clip_grad_norm_(watched, 0.5, error_if_nonfinite=True)
        assert ear.clips == []
        assert all(each.grad.equal(old) for each, old in zip(watched[1:], gradients[1:]))
        clip_grad_norm_(watched, 0.5)
    assert np.isnan(ear.shared[0][1]).tolist() == [True, False, False, False]
    assert np.isnan(ear.after[0]).all()  # after clipping the culprit cannot be told any more


@pytest.mark.parametrize("wrong", [(lambda p: clip_grad_norm_(p, "much")), (lambda p: clip_grad_value_(3, 0.5))])
def test_wrong_calls_raise_what_they_raise_without_a_tap(wrong: Callable[[list[nn.Parameter]], object]) -> None:
    watched = list(model().parameters())
    with pytest.raises((TypeError, ValueError)) as bare:
        wrong(watched)
    with Ear(watched), pytest.raises(bare.type) as heard:
        wrong(watched)
    assert str(heard.value) == str(bare.value)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 1.0), (torch.float32, 1e-25), (torch.float32, 1e25)])
def test_norms_that_torch_gets_wrong_are_not_shared(dtype: torch.dtype, scale: float) -> None:
    watched = [nn.Parameter(torch.ones(3, 4, dtype=dtype)), nn.Parameter(torch.ones(5))]
    watched[0].grad, watched[1].grad = torch.full((3, 4), scale, dtype=dtype), torch.ones(5)
    with Ear(watched) as ear:
        clip_grad_norm_(watched, 0.5)
    (clip,) = ear.clips
    assert len(clip.parameters()) == 2
    assert ear.known() == [id(watched[1])]
    assert ear.shared[0][1] == pytest.approx([5**0.5], rel=1e-6)


def test_shared_norms_are_as_true_as_documented() -> None:
    noise = torch.Generator().manual_seed(0)
    watched = [nn.Parameter(torch.zeros(SHARED_ELEMENTS)) for _ in range(2)] + [nn.Parameter(torch.zeros(2**20 + 1))]
    watched[0].grad = torch.randn(SHARED_ELEMENTS, generator=noise)
    watched[1].grad = torch.full((SHARED_ELEMENTS,), 0.01)
    watched[2].grad = torch.ones(2**20 + 1)
    before = truth(watched)
    with Ear(watched) as ear:
        clip_grad_norm_(watched, 0.5)
    assert ear.known() == [id(watched[0]), id(watched[1])]
    assert ear.shared[0][1][0] == pytest.approx(before[0], rel=2e-5)
    assert ear.shared[0][1][1] == pytest.approx(before[1], rel=1e-3)


def test_several_taps_hear_their_own_and_the_last_one_gives_torch_back() -> None:
    one, two, original = list(model().parameters()), list(model(1).parameters()), bodies()
    first, second = Ear(one), Ear([*one, *two])
    assert bodies() != original
    clip_grad_norm_(one, 0.5)
    first.tap.close()
    first.tap.close()
    clip_grad_norm_(two, 0.5)
    assert (len(first.clips), len(second.clips)) == (1, 2)
    second.tap.close()
    assert bodies() == original
    clip_grad_norm_(one, 0.25)
    assert (len(first.clips), len(second.clips)) == (1, 2)


def test_a_tap_that_is_garbage_gives_torch_back() -> None:
    original = bodies()
    ear = Ear(list(model().parameters()))
    assert bodies() != original
    del ear
    gc.collect()
    assert bodies() == original


def test_threads_hear_only_what_is_theirs() -> None:
    def train(seed: int, ear: Ear, parameters: list[nn.Parameter], truths: list[list[float]]) -> None:
        noise = torch.Generator().manual_seed(seed)
        for _ in range(30):
            for each in parameters:
                each.grad = torch.randn(each.shape, generator=noise)
            truths.append(truth(parameters))
            clip_grad_norm_((each for each in parameters), 0.5)

    lists = [list(model(seed).parameters()) for seed in range(3)]
    ears, truths = [Ear(each) for each in lists], [[] for _ in lists]
    threads = [threading.Thread(target=train, args=(n, ears[n], lists[n], truths[n])) for n in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for ear, true in zip(ears, truths):
        ear.tap.close()
        assert ear.before == true
        np.testing.assert_allclose([norms for _, norms in ear.shared], true, rtol=1e-6)


def test_the_users_own_patches_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def early(parameters: object, *args: object, **kwargs: object) -> object:
        calls.append("early")
        return clip_grad_norm_(parameters, *args, **kwargs)

    def late(parameters: object, *args: object, **kwargs: object) -> object:
        calls.append("late")
        return clip_grad_value_(parameters, *args, **kwargs)

    watched = list(model().parameters())
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", early)
    with Ear(watched) as ear:
        monkeypatch.setattr(torch.nn.utils, "clip_grad_value_", late)
        torch.nn.utils.clip_grad_norm_(watched, 0.5)
        torch.nn.utils.clip_grad_value_(watched, 0.5)
    assert calls == ["early", "late"]
    assert [each.kind for each in ear.clips] == ["norm", "value"]
    assert torch.nn.utils.clip_grad_norm_ is early
    assert torch.nn.utils.clip_grad_value_ is late


def test_a_body_that_somebody_put_over_ours_stays_and_works() -> None:
    watched = list(model().parameters())
    cell, calls = clip_grad_value_.__closure__[0], []
    original = cell.cell_contents
    with Ear(watched) as ear:
        ours = cell.cell_contents

        def theirs(*args: object, **kwargs: object) -> object:
            calls.append(args)
            return ours(*args, **kwargs)

        cell.cell_contents = theirs
        clip_grad_value_(watched, 0.5)
    assert cell.cell_contents is theirs
    clip_grad_value_(watched, 0.25)
    assert (len(calls), len(ear.clips)) == (2, 1)
    assert max(float(each.grad.abs().max()) for each in watched) == 0.25
    cell.cell_contents = original


def test_functions_keep_identity_name_signature_and_pickle() -> None:
    before = [(each.__name__, each.__qualname__, each.__wrapped__, inspect.signature(each)) for each in FUNCTIONS]
    with Ear(list(model().parameters())) as ear:
        assert ear.tap.unheard == ()
        now = [clip_grad.clip_grad_norm_, clip_grad.clip_grad_value_]
        now += [torch.nn.utils.clip_grads_with_norm_, torch.nn.utils.get_total_norm]
        assert all(each is old for each, old in zip(now, FUNCTIONS))
        assert [(each.__name__, each.__qualname__, each.__wrapped__, inspect.signature(each)) for each in now] == before
        for each in FUNCTIONS:
            assert copy.deepcopy(each) is each
            assert pickle.loads(pickle.dumps(each)) is each


def test_what_this_torch_cannot_tell_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = list(model().parameters())

    def built_otherwise(parameters: object, clip_value: float) -> None: ...

    monkeypatch.setattr(clip_grad, "clip_grad_value_", built_otherwise)
    with Ear(watched) as ear:
        clip_grad_norm_(watched, 0.5)
    assert ear.tap.unheard == ("clip_grad_value_",)
    assert len(ear.clips) == 1


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_step_that_clips_stays_one_graph(backend: str) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    watched, counter = list(model().parameters()), CompileCounterWithBackend(backend)
    bare = list(model().parameters())

    def step(parameters: list[nn.Parameter]) -> Tensor:
        total = clip_grad_norm_(parameters, 0.5)
        clip_grad_value_(parameters, 0.01)
        return total

    step(bare)
    with Ear(watched) as ear:
        compiled = torch.compile(step, backend=counter, fullgraph=True)
        compiled(watched)
        frames = counter.frame_count
        for _ in range(3):
            for each in watched:
                each.grad.mul_(7.0)
            compiled(watched)
    assert frames == counter.frame_count == 1
    assert ear.clips == []  # not observed, which the versions of the gradients tell
    for each, old in zip(model().parameters(), watched):
        old.grad = each.grad
    torch.compile(step, backend=backend, fullgraph=True)(watched)
    assert all(torch.equal(each.grad, other.grad) for each, other in zip(watched, bare))


def test_a_graph_compiled_before_is_compiled_once_more_at_most() -> None:
    from torch._dynamo.testing import CompileCounter

    torch.compiler.reset()
    watched, counter = list(model().parameters()), CompileCounter()
    compiled = torch.compile(lambda: clip_grad_norm_(watched, 0.5), backend=counter, fullgraph=True)
    compiled()
    for _ in range(4):
        with Ear(watched):
            compiled()
        compiled()
    assert counter.frame_count <= 2


def test_clipping_between_two_graphs_is_heard() -> None:
    torch.compiler.reset()
    watched = list(model().parameters())
    before = truth(watched)

    @torch.compile(backend="eager")
    def step() -> Tensor:
        torch._dynamo.graph_break()
        return clip(watched)

    @torch.compiler.disable
    def clip(parameters: list[nn.Parameter]) -> Tensor:
        return clip_grad_norm_(parameters, 0.5)

    with Ear(watched) as ear:
        step()
    assert ear.before == [before]


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_a_traced_graph_is_the_same() -> None:
    watched = list(model().parameters())

    def kinds() -> list[str]:
        traced = torch.jit.trace(lambda x: x * clip_grad_norm_(watched, 0.5), torch.ones(()), check_trace=False)
        return [each.kind() for each in traced.graph.nodes()]

    bare = kinds()
    with Ear(watched) as ear:
        ear.tap.before = ear.tap.after = lambda clip: None
        assert kinds() == bare
