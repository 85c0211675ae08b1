"""The dense random field against its equations written out, tick by tick."""

from __future__ import annotations

from functools import partial
from math import exp

import pytest
import torch
from torch import Tensor

from nexttick.networks.layers.crf import DenseCRF

close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)
B, L, T = 2, 3, 9
WEIGHTS, SCALES = (0.7, 0.4), (3.0, 0.8, 2.0)


def market() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return draw(B, L, T), draw(B, T).abs().cumsum(1), draw(B, T).cumsum(1)


def steps_of(x_BT: Tensor) -> Tensor:
    return x_BT.diff(dim=1, prepend=x_BT[:, :1])


def steps() -> tuple[Tensor, Tensor, Tensor]:
    """Logits, and what passed in time and price since the tick before."""
    logits, time, price = market()
    return logits, steps_of(time), steps_of(price)


def field(padding: str = "causal", window: int = T, steps: int = 3) -> DenseCRF:
    crf = DenseCRF(L, window, steps, padding=padding).double()
    exactly = partial(torch.tensor, dtype=torch.float64)  # the arguments go through float32
    logs = {"log_weights": exactly(WEIGHTS).log(), "log_scales": exactly(SCALES).log()}
    crf.load_state_dict(logs)
    return crf


def by_hand(b: int, padding: str, window: int, steps: int) -> Tensor:
    """Mean field with the Potts penalty for every pair and label, as the papers print it."""
    logits, time, price = (x[b] for x in market())
    near, alike, smooth = SCALES
    unary = logits.softmax(dim=0)
    q = unary
    for _ in range(steps):
        after = torch.empty_like(q)
        for t in range(T):
            energy = -unary[:, t].log()
            for s in range(max(0, t - window), min(T, t + window + 1)):
                if s == t or (padding == "causal" and s > t):
                    continue
                dt, dp = float(time[s] - time[t]), float(price[s] - price[t])
                k = WEIGHTS[0] * exp(-(dt**2) / (2 * near**2) - dp**2 / (2 * alike**2))
                k += WEIGHTS[1] * exp(-(dt**2) / (2 * smooth**2))
                energy = energy + k * (1 - q[:, s])  # the mass on all other labels
            after[:, t] = (-energy).softmax(dim=0)
        q = after
    return q


@pytest.mark.parametrize("padding", ["causal", "symmetric"])
@pytest.mark.parametrize("window", [2, T])
def test_steps_are_the_mean_field_of_the_paper(padding: str, window: int) -> None:
    q = field(padding, window, 3)(*steps()).exp()
    for b in range(B):
        close(q[b], by_hand(b, padding, window, 3))
    close(q.sum(dim=1), torch.ones(B, T, dtype=torch.float64))


def test_without_time_and_price_ticks_are_counted() -> None:
    logits, _, _ = market()
    ones = torch.ones(B, T, dtype=torch.float64)
    close(field()(logits), field()(logits, ones, 0 * ones))


@pytest.mark.parametrize("window", [2, T])
@torch.no_grad()
def test_tick_by_tick_the_field_is_the_same(window: int) -> None:
    crf, (logits, elapsed, change) = field(window=window), steps()
    state, q = crf.initial_state(B), []
    for t in range(T):
        q_BL, state = crf.step(logits[..., t], state, elapsed[:, t], change[:, t])
        q.append(q_BL)
    close(torch.stack(q, dim=2), crf(logits, elapsed, change))


def test_neighbours_bring_a_lone_tick_round_and_a_price_step_keeps_them_apart() -> None:
    logits = torch.zeros(1, 2, 9, dtype=torch.float64)
    logits[0, 1] = torch.tensor([2.0] * 4 + [-0.5] + [2.0] * 4)
    crf = DenseCRF(2, 4, 3, weights=(1.0, 0.01), scales=(3.0, 0.1, 1.0)).double()
    change = torch.zeros(1, 9, dtype=torch.float64)
    agreed = crf(logits, None, change).argmax(dim=1)[0]
    assert agreed.tolist() == [1] * 9
    change[0, 4:6] = torch.tensor([10.0, -10.0])
    assert crf(logits, None, change).argmax(dim=1)[0].tolist() == [1] * 4 + [0] + [1] * 4


def test_the_causal_field_comes_to_rest_after_as_many_steps_as_ticks() -> None:
    strong = DenseCRF(L, T, T, weights=(9.0, 9.0), scales=SCALES).double()
    more = DenseCRF(L, T, T + 1, weights=(9.0, 9.0), scales=SCALES).double()
    close(strong(*steps()), more(*steps()))


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_the_future_of_logits_times_and_prices_changes_nothing_before_it(changed: int) -> None:
    inputs = list(steps())
    before = field()(*inputs)
    inputs[changed] = inputs[changed].clone()
    inputs[changed][..., 5:] += 1.5
    after = field()(*inputs)
    assert torch.equal(before[..., :5], after[..., :5])
    assert not torch.equal(before[..., 5:], after[..., 5:])


def test_gradients_are_those_of_finite_differences() -> None:
    crf = field(window=3, steps=2)
    inputs = tuple(x.clone().requires_grad_() for x in steps())
    assert torch.autograd.gradcheck(crf, inputs)
    crf(*steps())[:, 0].sum().backward()
    assert all(p.grad is not None and (p.grad != 0).all() for p in crf.parameters())


def test_impossible_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        DenseCRF(2, weights=(0.0, 1.0))
    with pytest.raises(ValueError, match="window=0, steps=0"):
        DenseCRF(2, 0, 0)
    with pytest.raises(ValueError, match="causal"):
        DenseCRF(2, padding="none")
