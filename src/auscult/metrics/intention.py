"""Intention: the update that an optimizer has just made by its own formula, told without a copy of the parameters."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from auscult.metrics.norms import measurable


def intended_update(optimizer: Optimizer, group: dict[str, Any], parameter: Tensor) -> Tensor | None:
    """What an optimizer meant to add to a parameter, right after it has.

    From its state and the gradient, which must still be there. Rounding and whatever else has changed the parameter are
    not in it.

    Args:
        optimizer: The optimizer.
        group: Its group that holds the parameter.
        parameter: As it is after the update.

    Returns:
        The update, in the parameter's shape and dtype; None where it is not known: optimizers other than SGD, Adam and
        AdamW themselves, sparse and complex parameters, no gradient, gradients that the optimizer unscales by itself.

    References:
        torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW: the algorithms in their documentation, solved for the
        parameter before the update where weight decay needs it.
    """
    grad = parameter.grad
    if grad is None or parameter.is_complex() or grad.layout != torch.strided or not measurable(parameter):
        return None
    if getattr(optimizer, "grad_scale", None) is not None:
        return None
    with torch.no_grad():
        if type(optimizer) is SGD:
            return _sgd(optimizer.state[parameter], group, parameter, grad)
        if type(optimizer) in (Adam, AdamW):
            return _adam(optimizer.state[parameter], group, parameter, type(optimizer) is AdamW)
    return None


def _sgd(state: dict[str, Any], group: dict[str, Any], parameter: Tensor, grad: Tensor) -> Tensor | None:
    lr, decay, momentum = group["lr"], group["weight_decay"], group["momentum"]
    velocity = state.get("momentum_buffer")
    if momentum and velocity is None:
        return None
    if momentum and not group["nesterov"]:
        return -lr * velocity
    direction = -grad if group["maximize"] else grad
    if momentum:
        direction = direction + momentum * velocity
    if decay:
        before = (parameter + lr * direction) / (1 - lr * decay)
        direction = direction + decay * before
    return -lr * direction


def _adam(state: dict[str, Any], group: dict[str, Any], parameter: Tensor, decoupled: bool) -> Tensor | None:
    if "exp_avg" not in state:
        return None
    lr, decay, (first, second) = group["lr"], group["weight_decay"], group["betas"]
    steps = torch.as_tensor(state["step"]).double()
    largest = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    spread = (largest / (1 - second**steps)).sqrt() + group["eps"]
    update = -lr / (1 - first**steps) * state["exp_avg"] / spread
    if decay and group.get("decoupled_weight_decay", decoupled):
        before = (parameter - update) / (1 - lr * decay)
        update = update - lr * decay * before
    return update
