"""The head's own optimizer: steps with the host's, at its rate, within its clip, past bad gradients."""

import pytest
import torch
from torch import nn

from diff3r_plugin.plugin.head_training.head_optimizer import HeadOptimizer


@pytest.fixture
def host():
    return torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.1, 0.4)])


@pytest.fixture
def head():
    return nn.Linear(2, 1)


def set_gradients(head, value):
    for parameter in head.parameters():
        parameter.grad = torch.full_like(parameter, value)


def test_it_moves_only_when_the_host_steps(host, head):
    HeadOptimizer(head, host, multiplier=0.5)
    before = head.weight.clone()
    set_gradients(head, 1.0)
    assert torch.equal(head.weight, before)
    host.step()
    # the first step of Adam is the learning rate, here half of the host's larger one
    assert torch.allclose(before - head.weight, torch.full_like(before, 0.2), atol=1e-6)
    assert head.weight.grad is None


def test_it_follows_the_hosts_schedule(host, head):
    optimizer = HeadOptimizer(head, host, multiplier=2.0)
    host.param_groups[1]["lr"] = 0.05
    assert optimizer.learning_rate == pytest.approx(0.2)


def test_gradients_are_unscaled_and_clipped(host, head):
    optimizer = HeadOptimizer(head, host, multiplier=1.0, clip=lambda: 0.5, scale=lambda: 8.0)
    set_gradients(head, 80.0)
    host.step()
    first_moment = torch.cat([s["exp_avg"].flatten() for s in optimizer.state_dict()["state"].values()])
    assert first_moment.norm().item() == pytest.approx(0.1 * 0.5, rel=1e-4)


def test_gradients_are_unscaled_where_nothing_is_clipped(host, head):
    optimizer = HeadOptimizer(head, host, multiplier=1.0, scale=lambda: 8.0)
    set_gradients(head, 80.0)
    host.step()
    for state in optimizer.state_dict()["state"].values():
        torch.testing.assert_close(state["exp_avg"], torch.full_like(state["exp_avg"], 0.1 * 10.0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_skipped_and_counted(host, head, bad):
    optimizer = HeadOptimizer(head, host, multiplier=1.0)
    before = head.weight.clone()
    set_gradients(head, bad)
    host.step()
    assert optimizer.skipped == 1 and torch.equal(head.weight, before) and head.weight.grad is None


def test_no_gradient_no_step(host, head):
    optimizer = HeadOptimizer(head, host, multiplier=1.0)
    host.step()
    assert optimizer.skipped == 0 and optimizer.state_dict()["state"] == {}


def test_a_step_that_a_loss_scaler_skips_leaves_nothing_for_the_next(host, head):
    """With mixed precision the host's first scale is nearly always too large."""
    HeadOptimizer(head, host, multiplier=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    (parameter,) = host.param_groups[0]["params"]
    scaler.scale(parameter.sum() + head.weight.sum() * 3).backward()
    parameter.grad.fill_(float("inf"))
    before = head.weight.clone()
    scaler.step(host)
    scaler.update()
    assert torch.equal(head.weight, before), "the host did not step, so the head did not"
    host.zero_grad()
    head.weight.sum().backward()
    assert head.weight.grad.unique().item() == 1.0, "the gradient of the skipped step is gone"


def test_removed_it_no_longer_follows(host, head):
    optimizer = HeadOptimizer(head, host, multiplier=1.0)
    optimizer.remove()
    set_gradients(head, 1.0)
    host.zero_grad()
    assert head.weight.grad is not None, "zeroing the host's gradients is the host's own again"
    before = head.weight.clone()
    host.step()
    assert torch.equal(head.weight, before)
