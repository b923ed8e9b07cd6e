"""Published against measured, line by line: trains the makemore cases of the clinic and reads them back.

python scripts/reproduce.py --names names.txt           all but the trainings of 200,000 steps; a few minutes
python scripts/reproduce.py --names names.txt --long    these too
"""

import hashlib
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer

import auscult
from auscult.clinic import perceptron, sandwich
from auscult.clinic.names import Names, load_names
from auscult.clinic.published import (
    ACTIVATION_GRADIENTS,
    ACTIVATIONS,
    BLOCKS,
    FIRST,
    LAST,
    LINEAR_ACTIVATIONS,
    LONG_BLOCKS,
    SPLITS,
    WEIGHT_GRADIENTS,
    Block,
    Figure,
    printed_losses,
)
from auscult.core.run import Run

PAGE = Path(__file__).parents[1] / "docs" / "reproduction.md"
KERNELS = "AVX2"
HEADINGS: dict[tuple[str, ...], tuple[str, ...]] = {
    FIRST: ("parameters", "expected loss", "loss"),
    ACTIVATIONS: ("mean", "std", "saturated %"),
    LINEAR_ACTIVATIONS: ("mean", "std", "beyond 0.97 %"),
    ACTIVATION_GRADIENTS: ("mean of gradient", "std of gradient"),
    WEIGHT_GRADIENTS: ("mean of gradient", "std of gradient", "grad:data"),
    LAST: ("train loss", "dev loss"),
}
VERDICTS = {True: "yes", False: "**no**", None: "chaotic"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A printed number and what was measured; None where the run was not made."""

    figure: Figure
    value: float | None

    @property
    def verdict(self) -> str:
        """Whether they agree, in one word."""
        return "not run" if self.value is None else VERDICTS[self.figure.agrees(self.value)]

    def __str__(self) -> str:
        return "" if self.value is None else self.figure.printed_alike(self.value)


Table = tuple[Block, list[tuple[Outcome, ...]]]


# -- training ----------------------------------------------------------------------------------------------------------


def train(case: str, names: Names, directory: Path, steps: int) -> Run:
    """Train a case and read it back."""
    print(f"training {case}, {steps:,} steps", flush=True)
    if case in perceptron.STAGES:
        monitor = perceptron.train(perceptron.STAGES[case], names, directory / case, steps=steps)
    else:
        monitor = sandwich.train(sandwich.RECIPES[case], names, directory / case, steps=steps)
    return _read(monitor)


def _read(monitor: auscult.Monitor) -> Run:
    if monitor.failures:
        raise RuntimeError(f"Expected auscult to measure without failing, but got {monitor.failures}.")
    return auscult.load(monitor.path)


def train_all(names: Names, directory: Path, long: bool) -> dict[str, Run]:
    """Every case that prints a figure, each as far as its last figure."""
    steps: dict[str, int] = {}
    for block in (*BLOCKS, *(LONG_BLOCKS if long else ())):
        steps[block.case] = max(steps.get(block.case, 0), block.step + 1)
    return {case: train(case, names, directory, number) for case, number in steps.items()}


def compare(blocks: Iterable[Block], runs: dict[str, Run]) -> list[Table]:
    """Every printed number beside the recorded one."""
    return [(block, [tuple(_outcome(each, runs[block.case]) for each in line) for line in block.lines()])
            for block in blocks]  # fmt: skip


def _outcome(figure: Figure, run: Run) -> Outcome:
    return Outcome(figure, figure.measured(run) if figure.step <= run.last_step else None)


def compare_losses(runs: dict[str, Run]) -> dict[str, list[Outcome]]:
    """The losses printed every 10,000 steps beside the recorded ones, by case."""
    found: dict[str, list[Outcome]] = {}
    for figure in printed_losses():
        found.setdefault(figure.case, []).append(_outcome(figure, runs[figure.case]))
    return found


# -- what is chaotic, and the exercises --------------------------------------------------------------------------------


def deviation(case: str, run: Run, names: Names, directory: Path) -> float:
    """Median relative change of the weight gradients' std at step 1000 if the learning rate changes by a millionth."""
    recipe = sandwich.RECIPES[case]
    twin = replace(recipe, lr=recipe.lr * (1 + 1e-6))
    other = _read(sandwich.train(twin, names, directory / f"{case}-twin", steps=1001))
    paths = [each.path for each in run.parameters if len(each.shape) == 2]
    pairs = [(run.series("grad_std", path).at(1000), other.series("grad_std", path).at(1000)) for path in paths]
    return median(abs(right / left - 1) for left, right in pairs)


def twin_losses(names: Names, directory: Path) -> list[str]:
    """Losses on train and dev after 200,000 steps of `mlp-original`, the learning rate changed by a millionth."""
    stage, found = perceptron.STAGES["mlp-original"], list[str]()
    for change in (1e-6, -1e-6):
        print(f"training a twin of mlp-original, {perceptron.STEPS:,} steps", flush=True)
        twin = replace(stage, lr=stage.lr * (1 + change))
        run = _read(perceptron.train(twin, names, directory / f"twin{change:+.0e}"))
        train_loss, dev_loss = (run.series(f"{split}/loss").values[-1] for split in ("train", "dev"))
        found.append(f"{train_loss:.4f} and {dev_loss:.4f}")
    return found


def chaos_lines(runs: dict[str, Run], names: Names, directory: Path, long: bool) -> list[str]:
    """Why some figures cannot be met."""
    cases = ("deep-no-fan-in", "deep-tanh")
    wild, tame = (deviation(case, runs[case], names, directory) for case in cases)
    return [
        "* **2.5, without fan-in scaling, after 1,001 steps**, is chaotic: how the first steps are rounded decides",
        "  everything later, so that another processor or version gives other figures. Proof: changing the learning",
        f"  rate by a millionth changes the std of the weight gradients by {wild:.0%} in the median here, and by",
        f"  {tame:.0e} in `deep-tanh`. Saturation belongs to the state and not to the path: demanded to two points.",
        "* **1, the loss on one batch of `mlp-original`** is chaotic in the same way: it begins confidently wrong and",
        "  saturated. Whether its losses on all of train and dev are met is in the table.",
        *(twin_lines(names, directory) if long else ()),
    ]


def twin_lines(names: Names, directory: Path) -> list[str]:
    """How far apart the losses of `mlp-original` come to lie for no reason."""
    up, down = twin_losses(names, directory)
    return [
        "  Proof: with a learning rate larger by a millionth they are",
        f"  {up}, with one smaller by a millionth {down}.",
    ]


def zero_lines(names: Names, directory: Path) -> list[str]:
    """Which parameters train when all begin at zero."""
    run = train("deep-zero", names, directory, sandwich.STEPS)
    counts = np.bincount(names.train.targets.numpy()) / len(names.train.targets)
    entropy = -(counts * np.log(counts)).sum()
    lines = [
        "## Exercise: all weights and biases zero\n",
        "The notebook asks what trains. The diagnosis:\n",
        *(f"> {finding}\n" for finding in auscult.diagnose(run)),
        "| parameter | elements | largest update | trains |",
        "|---|--:|--:|---|",
    ]
    for each in run.parameters:
        largest = float(run.series("update_norm", each.path).values.max())
        lines.append(f"| {each.path} | {each.size} | {largest:.3g} | {'yes' if largest else 'never'} |")
    loss = run.series("train/loss").values[-1]
    return [
        *lines,
        "\nOnly the output bias trains: every other gradient has a factor that is 0, an activation or a weight. So the",
        f"network learns how frequent each character is and nothing else: its loss on all of train is {loss:.4f} after",
        f"{sandwich.STEPS:,} steps; the entropy of the frequencies, which it cannot go below, is {entropy:.4f}.\n",
    ]


def folding_lines(names: Names, directory: Path) -> list[str]:
    """How exact the folding of BatchNorm is."""
    run = train("folding", names, directory, sandwich.STEPS)
    single, double = (float(run.series(f"folding/{dtype}").values[-1]) for dtype in ("float32", "float64"))
    return [
        "## Exercise: BatchNorm folded away\n",
        "Three layers with BatchNorm, trained for 1,001 steps; then each is folded into the Linear before it.",
        "Largest change of any logit over all of dev, relative to the largest logit:\n",
        "| precision | demanded | measured | agrees |",
        "|---|--:|--:|---|",
        f"| float32 | 1e-6 | {single:.1e} | {'yes' if single <= 1e-6 else '**no**'} |",
        f"| float64 | 1e-14 | {double:.1e} | {'yes' if double <= 1e-14 else '**no**'} |\n",
    ]


# -- the page ----------------------------------------------------------------------------------------------------------


HEAD = """# Reproduction

Written by `make reproduce`, {machine}

What a notebook on "Building makemore Part 3: Activations & Gradients, BatchNorm" (`makemore_BatchNorm`, after the
lecture by Karpathy, 2022) printed, and what auscult recorded while the cases of `auscult/clinic` trained: ordinary
scripts over `auscult.watch`, read back by `auscult.load`. The names are makemore's `names.txt` ({words:,} names,
SHA-256 `{digest}...`), which is not part of this project.

**{met} of {demanded} figures agree**, {identical} of them in every printed digit. {chaotic} more are of chaotic
runs.{missing}

Demanded is: at the first step, one unit of the last printed digit; after 1,001 steps, four significant digits (or the
last printed digit where fewer are printed); after 200,000 steps, 0.005.

## What cannot be met, and what to know

{notes}
"""
NOTES = """* **The last digit depends on the processor's kernels.** The script asks Intel MKL for its AVX2 kernels
  (`MKL_CBWR=AVX2`), with which the figures come out. With AVX-512 one of them differs: in 2.2, gain 3, layer 1 the std
  of the gradient is 9.977490e-04 in place of 9.977493e-04; in float64 it is 9.977491e-04.
* **2.3, "saturated" of linear layers** is the share of outputs beyond 0.97 of layers that do not saturate. auscult's
  `saturated_fraction` is for outputs within [-1, 1], so the case logs this number itself.
* **1.3, `randn(1000, 10)` and its product** are drawn from an unseeded generator: -0.0085, 0.9879 and so on are not
  reproducible by anyone.
* **1.4, other evaluations of one training** (statistics of the whole split: 2.0668 and 2.1048; calibrated: 2.0669 and
  2.1049) are not made; the table has the one with running statistics, which the summary in 1.7 repeats.
* **Appendix C3 and C4** train nothing, so there is nothing to watch. Plots have no printed figures."""


@dataclass(frozen=True, slots=True)
class Results:
    """Everything the page tells.

    Attributes:
        names: The data.
        digest: SHA-256 of its file.
        tables: The printed tables.
        losses: The losses printed every 10,000 steps, by case.
        chaos: What is chaotic, as Markdown.
        exercises: The exercises, as Markdown.
    """

    names: Names
    digest: str
    tables: list[Table]
    losses: dict[str, list[Outcome]]
    chaos: list[str]
    exercises: list[str]

    def outcomes(self) -> list[Outcome]:
        """All printed numbers."""
        tables = (each for _, lines in self.tables for line in lines for each in line)
        # The first of the losses is in its case's table already.
        return [*tables, *(each for some in self.losses.values() for each in some[1:])]


def page(results: Results) -> str:
    """The page as Markdown."""
    counts = Counter(each.verdict for each in results.outcomes())
    known = [each for each in results.outcomes() if each.verdict in ("yes", "**no**")]
    head = HEAD.format(
        machine=machine_line(),
        words=results.names.count,
        digest=results.digest[:16],
        met=counts["yes"],
        demanded=len(known),
        identical=sum(float(str(each)) == float(each.figure.printed) for each in known),
        chaotic=counts["chaotic"],
        missing=f" {counts['not run']} are of trainings that were not run." if counts["not run"] else "",
        notes="\n".join([*results.chaos, NOTES]),
    )
    tables = (line for each in results.tables for line in table_lines(each))
    return "\n".join([head, *split_lines(results.names), *tables, *loss_lines(results.losses), *results.exercises])


def machine_line() -> str:
    """When and with what the page was made."""
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d}, on {platform.system()} {platform.machine()}, one thread, "
        f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, "
        f"auscult {auscult.__version__}."
    )


def split_lines(names: Names) -> list[str]:
    """Sizes of the data."""
    sizes = {
        "names": names.count,
        "train": len(names.train.targets),
        "dev": len(names.dev.targets),
        "test": len(names.test.targets),
    }
    rows = (f"| {name} | {SPLITS[name]} | {size} | {VERDICTS[size == SPLITS[name]]} |" for name, size in sizes.items())
    return ["## The data\n", "| | published | measured | agrees |", "|---|--:|--:|---|", *rows, ""]


def table_lines(table: Table) -> list[str]:
    """One printed table, published and measured side by side."""
    block, lines = table
    columns = "".join(f" {name} | measured |" for name in HEADINGS[block.metrics])
    out = [
        f"### {block.section}: `{block.case}`, step {block.step:,}\n",
        f"| |{columns} agrees |",
        f"|---|{'--:|' * (2 * len(block.metrics))}---|",
    ]
    for line in lines:
        cells = "".join(f" {each.figure.printed} | {each} |" for each in line)
        words = list(dict.fromkeys(each.verdict for each in line))
        out.append(f"| {line[0].figure.path or 'whole run'} |{cells} {', '.join(words)} |")
    return [*out, ""]


def loss_lines(losses: dict[str, list[Outcome]]) -> list[str]:
    """The losses printed every 10,000 steps: a row per step, a column per case."""
    out = [
        "### 1 to 1.5: the loss on one batch, every 10,000 steps, published / measured\n",
        f"| step |{''.join(f' {case} |' for case in losses)}",
        f"|--:|{'--:|' * len(losses)}",
    ]
    for row in zip(*losses.values(), strict=True):
        cells = (f" {each.figure.printed} / {str(each) or 'not run'}{_mark(each)} |" for each in row)
        out.append(f"| {row[0].figure.step:,} |{''.join(cells)}")
    return [*out, ""]


def _mark(outcome: Outcome) -> str:
    return "" if outcome.verdict in ("yes", "not run") else f" {outcome.verdict}"


def main(
    names: Annotated[Path, typer.Option(help="makemore's names.txt.", exists=True, dir_okay=False)],
    long: Annotated[bool, typer.Option("--long", help="Also the six trainings of 200,000 steps.")] = False,
    page_path: Annotated[Path, typer.Option("--out", help="Where to write the page.")] = PAGE,
) -> None:
    """Set published against measured figures, and write docs/reproduction.md."""
    os.environ.setdefault("MKL_CBWR", KERNELS)  # read by MKL at its first call
    torch.set_num_threads(1)
    loaded = load_names(names)
    with tempfile.TemporaryDirectory() as directory:
        runs = train_all(loaded, Path(directory), long)
        results = Results(
            names=loaded,
            digest=hashlib.sha256(names.read_bytes()).hexdigest(),
            tables=compare((*BLOCKS, *LONG_BLOCKS), runs),
            losses=compare_losses(runs),
            chaos=chaos_lines(runs, loaded, Path(directory), long),
            exercises=[*zero_lines(loaded, Path(directory)), *folding_lines(loaded, Path(directory))],
        )
    for each in results.outcomes():
        figure = each.figure
        where = f"{figure.section:4} {figure.case:30} {figure.step:7} {figure.metric:22} {figure.path:17}"
        print(f"{where} {figure.printed:>20} {each!s:>20}  {each.verdict}")
    page_path.write_text(page(results), encoding="utf-8")
    print(page_path)


if __name__ == "__main__":
    typer.run(main)
