"""A fully connected conditional random field over ticks: near ticks at like prices agree.

Krähenbühl & Koltun 2011 (arXiv:1210.5644), as used by Chen et al. 2016, "DeepLab" (v2,
arXiv:1606.00915), section 3.3, in its one-dimensional form. The energy of labels l is

    E(l) = - sum_t log P(l_t) + sum_{s<t} [l_s != l_t] k(s, t),
    k(s, t) = w_1 exp(-(time_s - time_t)^2 / 2 a^2 - (price_s - price_t)^2 / 2 b^2)
            + w_2 exp(-(time_s - time_t)^2 / 2 c^2),

and mean-field steps look for independent Q_t(l) near exp(-E):

    Q_t(l) <- P_t(l) exp(sum_s k(s, t) Q_s(l)), normalised over l,

where terms that are equal for all l have been left out. All w and all scales are learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import Block, State
from nexttick.networks.layers.shapes import Padding, check_positive


class DenseCRF(Block):
    """Mean-field steps over the label probabilities of ticks; differentiable.

    A tick hears from the `window` ticks before it, and symmetrically from those after it too;
    with a window as long as the segment the field is fully connected. Causally, messages flow
    forward only: that is no longer the mean field of one energy but of each tick's energy given
    its past, and its steps always converge, one tick after the other.

    Shapes: logits_BLT of L labels to log Q of shape (B, L, T), normalised over labels. Receptive
    field: 1 + steps window, causally; 1 + 2 steps window, symmetrically.

    Args:
        labels: L.
        window: ticks on a side that a tick hears from in one step.
        steps: mean-field steps; 10 in the paper.
        weights: start of w_1 (time and price) and w_2 (time alone).
        scales: start of a and b (time and price beside each other) and c (time alone), in the
            units of what `forward` gets.
    """

    nds = (1,)
    paddings = ("causal", "symmetric")

    def __init__(
        self,
        labels: int,
        window: int = 32,
        steps: int = 3,
        *,
        weights: tuple[float, float] = (0.1, 0.1),
        scales: tuple[float, float, float] = (8.0, 1.0, 4.0),
        nd: int = 1,
        padding: Padding = "causal",
    ):
        super().__init__(labels, labels, nd)
        check_positive("DenseCRF", window=window, steps=steps)
        if padding not in self.paddings:
            raise ValueError(f"DenseCRF: padding={padding!r}; choose from {self.paddings}")
        if min(*weights, *scales) <= 0:
            raise ValueError(f"DenseCRF: weights={weights}, scales={scales}; give positive ones")
        self.steps = steps
        self.before, self.after = window, window if padding == "symmetric" else 0
        self.parts = 3
        # Logarithms, so that no step of training makes them negative.
        self.log_weights = nn.Parameter(torch.tensor(weights).log())
        self.log_scales = nn.Parameter(torch.tensor(scales).log())

    def forward(
        self, logits_BLT: Tensor, elapsed_BT: Tensor | None = None, change_BT: Tensor | None = None
    ) -> Tensor:
        """Log-probabilities of each tick's labels after all steps.

        Args:
            logits_BLT: unary logits; a binary logit z stands as (0, z).
            elapsed_BT: time since the tick before, in the unit of the scales; 1 if not given.
            change_BT: price change since then, in the unit of the second scale; 0 if not given.
        """
        kernel_BTN = self._kernel(logits_BLT, elapsed_BT, change_BT)
        unary = logits_BLT.log_softmax(dim=1)
        log_q = unary
        for _ in range(self.steps):
            q_BLTN = self._neighbours(log_q.exp())
            log_q = (unary + torch.einsum("bltn,btn->blt", q_BLTN, kernel_BTN)).log_softmax(dim=1)
        return log_q

    def initial_state(self, batch: int) -> State:
        """How far the window's ticks are in time and in price, and their Q before each step."""
        like = self.log_scales
        far_BN = like.new_zeros(batch, self.before)
        return far_BN, far_BN, like.new_zeros(batch, self.steps, self.in_channels, self.before)

    def step(
        self,
        x_BC: Tensor,
        state: State,
        elapsed_B: Tensor | None = None,
        change_B: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """One tick's logits (B, L) in, its log Q of the same shape out; causally only.

        Time elapsed and price change since the tick before are those of `forward`.
        """
        if self.after:
            return super().step(x_BC, state)
        one_B = x_BC.new_ones(len(x_BC))
        times_BN = state[0] + (one_B if elapsed_B is None else elapsed_B)[:, None]
        prices_BN = state[1] + (0 * one_B if change_B is None else change_B)[:, None]
        kernel_BN = self._weigh(times_BN.square(), prices_BN.square())
        unary = log_q = x_BC.log_softmax(dim=1)
        newest = []
        # Before its s-th step a tick hears what its neighbours thought before their s-th, so that
        # Q of each step is remembered by itself.
        for past_BLN in state[2].unbind(1):
            newest.append(log_q.exp())
            message_BL = torch.einsum("bln,bn->bl", past_BLN, kernel_BN)
            log_q = (unary + message_BL).log_softmax(dim=1)
        q_BSLN = torch.cat([state[2], torch.stack(newest, 1).unsqueeze(3)], dim=3)
        # The window moves on: its oldest tick leaves, the newest comes in, at no distance.
        far = (nn.functional.pad(far_BN[:, 1:], (0, 1)) for far_BN in (times_BN, prices_BN))
        return log_q, (*far, q_BSLN[..., 1:])

    def span(self, first: float, last: float) -> tuple[float, float]:
        """A window further at every step."""
        return first - self.steps * self.before, last + self.steps * self.after

    def _kernel(self, like: Tensor, elapsed_BT: Tensor | None, change_BT: Tensor | None) -> Tensor:
        """The k between each tick and its neighbours, 0 for itself and outside the segment."""
        one_BT = torch.ones_like(like[:, 0])
        time = self._distance(one_BT if elapsed_BT is None else elapsed_BT)
        price = self._distance(0 * one_BT if change_BT is None else change_BT)
        inside_1TN = self._neighbours(one_BT[:1])
        beside_N = torch.arange(-self.before, self.after + 1, device=like.device) != 0
        return self._weigh(time, price) * (inside_1TN * beside_N)

    def _weigh(self, time: Tensor, price: Tensor) -> Tensor:
        """The kernel of squared differences in time and price."""
        near, alike, smooth = (-2 * self.log_scales).exp() / 2
        both, alone = self.log_weights.exp()
        return both * (-(time * near + price * alike)).exp() + alone * (-time * smooth).exp()

    def _distance(self, steps_BT: Tensor) -> Tensor:
        """Squared sums of the steps between each tick and its neighbours; shape (B, T, N)."""
        # Summed within each window: over a whole segment, float32 would lose a tick's own step.
        way_BTN = self._neighbours(steps_BT).cumsum(-1)
        return (way_BTN - way_BTN[..., self.before : self.before + 1]).square()

    def _neighbours(self, x: Tensor) -> Tensor:
        """Shape (..., T) to (..., T, N): the window of each tick, itself in it."""
        padded = nn.functional.pad(x, (self.before, self.after))
        return padded.unfold(-1, self.before + 1 + self.after, 1)
