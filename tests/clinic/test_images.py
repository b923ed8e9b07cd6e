"""Images: MNIST's files written by hand from the published format, preprocessing and sampler by closed forms."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import auscult
from auscult.clinic.cases import run_case
from auscult.clinic.images import batches, load_digits, load_mnist
from auscult.clinic.listening import Network
from auscult.core.errors import SetupError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
COUNT = 300
# As the format's publication spells them: the magic number, then the length of each axis, high byte first.
IMAGES_HEAD = struct.pack(">IIII", 2051, COUNT, 28, 28)
LABELS_HEAD = struct.pack(">II", 2049, COUNT)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28), np.uint8)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 10, COUNT, np.uint8)


@pytest.fixture
def mnist(pixels, labels, tmp_path) -> Path:
    """A directory with both files, plain."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / IMAGES).write_bytes(IMAGES_HEAD + pixels.tobytes())
    (folder / LABELS).write_bytes(LABELS_HEAD + labels.tobytes())
    return folder


def test_every_pixel_is_where_the_file_has_it(mnist, pixels, labels) -> None:
    images = load_mnist(mnist)
    assert images.inputs.shape == (COUNT, 1, 28, 28) and images.inputs.dtype == torch.float32
    exact = pixels.astype(np.float64) / 255
    expected = (exact - exact.mean()) / exact.std(ddof=1)
    np.testing.assert_allclose(images.inputs[:, 0].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert images.targets.tolist() == labels.tolist() and images.targets.dtype == torch.int64


def test_gzipped_files_are_the_same(mnist) -> None:
    plain = load_mnist(mnist)
    for name in (IMAGES, LABELS):
        (mnist / f"{name}.gz").write_bytes(gzip.compress((mnist / name).read_bytes()))
        (mnist / name).unlink()
    packed = load_mnist(mnist)
    assert torch.equal(packed.inputs, plain.inputs) and torch.equal(packed.targets, plain.targets)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, None, r"train-images-idx3-ubyte' or the same with \.gz, but there is neither"),
        (LABELS, None, r"train-labels-idx1-ubyte' or the same with \.gz, but there is neither"),
        (IMAGES, b"", "an empty file"),
        (IMAGES, LABELS_HEAD + bytes(COUNT), "begin with 00 00 08 03 .* but got 00 00 08 01"),
        (LABELS, b"<html>not found</html>", "begin with 00 00 08 01"),
        (IMAGES, IMAGES_HEAD[:9], "cut short"),
        (
            IMAGES,
            IMAGES_HEAD + bytes(COUNT * 784 - 1),
            "hold 235216 bytes, as its header of 300 x 28 x 28 says, but got",
        ),
        (LABELS, LABELS_HEAD + bytes(COUNT + 1), "too long"),
        (LABELS, struct.pack(">II", 2049, 10) + bytes(10), "10 labels for 300 images"),
        (LABELS, LABELS_HEAD + bytes([10]) * COUNT, "labels from 0 to 9"),
        (IMAGES, struct.pack(">IIII", 2051, 1, 8, 8) + bytes(64), "28 x 28 pixels in .* but got 8 x 8"),
        (IMAGES, IMAGES_HEAD + bytes(COUNT * 784), "images of digits"),
        (LABELS, gzip.compress(LABELS_HEAD + bytes(COUNT), mtime=0)[:-9], "unpacked"),
    ],
)
def test_what_is_wrong_with_the_files_is_said(name, content, message, mnist, tmp_path) -> None:
    if content is None:
        (mnist / name).unlink()
    else:
        (mnist / name).write_bytes(content)
    with pytest.raises(SetupError, match=message):
        run_case("sgd-0.01", tmp_path / "run", images=mnist)
    assert not (tmp_path / "run").exists()


def test_only_cases_that_train_on_images_take_them(mnist, tmp_path) -> None:
    with pytest.raises(SetupError, match=r"--data for deep-zero.* sgd-0\.01, sgd-0\.1"):
        run_case("deep-zero", tmp_path / "run", names=tmp_path / "names.txt", images=mnist)


def test_a_case_trains_on_them_and_the_run_says_so(mnist, tmp_path) -> None:
    steps: list[int] = []
    run = auscult.load(run_case("sgd-0.01", tmp_path / "run", images=mnist, on_step=steps.append).path)
    assert run.info.config["data"] == "mnist" and steps[-1] == 201 == len(run.steps)
    inputs, targets = next(batches(load_mnist(mnist), 10, 0))
    torch.manual_seed(0)
    with torch.no_grad():
        first = functional.nll_loss(Network()(inputs), targets)
    assert run.series("loss").values[0] == float(first)


def test_digits_are_standardised_and_at_the_size_of_mnist() -> None:
    digits = load_digits()
    assert digits.inputs.shape == (1797, 1, 28, 28) and digits.targets.shape == (1797,)
    assert float(digits.inputs.double().mean()) == pytest.approx(0, abs=1e-5)
    assert float(digits.inputs.double().std()) == pytest.approx(1, abs=1e-5)
    assert digits.targets.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as published


def test_every_pass_draws_each_image_at_most_once_in_an_order_of_its_seed(mnist) -> None:
    images = load_mnist(mnist)
    place = {image.numpy().tobytes(): number for number, image in enumerate(images.inputs)}
    stream, again, other = (batches(images, 128, seed) for seed in (3, 3, 4))
    first, second = ([next(stream), next(stream)] for _ in range(2))
    drawn = [[place[image.numpy().tobytes()] for inputs, _ in part for image in inputs] for part in (first, second)]
    assert len(set(drawn[0])) == len(set(drawn[1])) == 256 and drawn[0] != drawn[1]
    assert all(torch.equal(images.targets[drawn[0][:128]], each) for each in (first[0][1], next(again)[1]))
    assert not torch.equal(next(other)[0], first[0][0])
    with pytest.raises(SetupError, match="at least 301 images"):
        batches(images, 301, 0)
