import pytest

from auscult.core.naming import mentions_loss, names_evaluation, names_loss, training_losses


@pytest.mark.parametrize(
    "name",
    [
        "loss", "Loss", "train_loss", "train/loss", "Training Loss", "training_loss", "loss/train", "Loss/train",
        "loss_train", "trainLoss", "train_loss_epoch", "train_loss_step", "loss_step", "batch_loss", "epoch/train/loss",
        "critic/loss",
    ],
)  # fmt: skip
def test_names_of_a_training_loss(name: str) -> None:
    assert names_loss(name) and mentions_loss(name) and not names_evaluation(name)
    assert training_losses([name, "val_loss", "accuracy", "g_loss"]) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "val_loss", "valid/loss", "test_loss", "eval_loss", "val/loss", "Loss/test", "loss_val", "valLoss",
        "val_loss_epoch", "validation_epoch_loss", "dev loss", "val_small/loss", "test.loss",
    ],
)  # fmt: skip
def test_evaluations_are_no_training_loss(name: str) -> None:
    assert not names_loss(name) and mentions_loss(name) and names_evaluation(name)
    assert training_losses([name]) == []


@pytest.mark.parametrize(
    "name", ["g_loss", "d_loss", "loss_g", "kl_loss", "loss/kl", "aux_loss", "total_loss", "loss_scale", "train/step"]
)
def test_parts_and_other_numbers_are_no_training_loss(name: str) -> None:
    assert not names_loss(name) and not names_evaluation(name) and training_losses([name]) == []


@pytest.mark.parametrize("name", ["glossary", "closs", "train", "step/epoch"])
def test_the_word_must_be_there(name: str) -> None:
    assert not names_loss(name) and not mentions_loss(name)


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (("train/loss", "loss"), ["loss", "train/loss"]),
        (("train_loss_epoch", "train_loss_step"), ["train_loss_step", "train_loss_epoch"]),
        (("Loss/train", "train_loss"), ["train_loss", "Loss/train"]),
        (("actor/loss", "critic/loss"), []),
        (("actor/loss", "critic/loss", "train_loss"), ["train_loss"]),
        (("holdout/loss", "train_loss"), ["train_loss"]),
        (("actor/loss", "val/loss"), ["actor/loss"]),
        ((), []),
    ],
)
def test_of_several_the_surest_comes_first(names: tuple[str, ...], known: list[str]) -> None:
    assert training_losses(names) == known
