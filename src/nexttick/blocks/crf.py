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

from nexttick.blocks.block import Block
from nexttick.blocks.shapes import Padding, check_positive


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
        nd: 1.
        padding: `causal` or `symmetric`.

    Raises:
        ValueError: for sizes below 1, weights or scales that are not positive, other paddings.
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
        # Logarithms, so that no step of training makes them negative.
        self.log_weights = nn.Parameter(torch.tensor(weights).log())
        self.log_scales = nn.Parameter(torch.tensor(scales).log())

    def forward(
        self, logits_BLT: Tensor, time_BT: Tensor | None = None, price_BT: Tensor | None = None
    ) -> Tensor:
        """Log-probabilities of each tick's labels after all steps.

        Args:
            logits_BLT: unary logits; a binary logit z stands as (0, z).
            time_BT: when each tick was, in the unit of the scales; its index if not given.
                Only differences count: start each segment near 0, or float32 cannot tell ticks
                of one second apart.
            price_BT: its price, in the unit of the second scale; all equal if not given.
        """
        kernel_BTN = self._kernel(logits_BLT, time_BT, price_BT)
        unary = logits_BLT.log_softmax(dim=1)
        log_q = unary
        for _ in range(self.steps):
            q_BLTN = self._neighbours(log_q.exp())
            log_q = (unary + torch.einsum("bltn,btn->blt", q_BLTN, kernel_BTN)).log_softmax(dim=1)
        return log_q

    def span(self, first: float, last: float) -> tuple[float, float]:
        """A window further at every step."""
        return first - self.steps * self.before, last + self.steps * self.after

    def output_length(self, length: int) -> int:
        """As long as the input."""
        return length

    def _kernel(self, like: Tensor, time_BT: Tensor | None, price_BT: Tensor | None) -> Tensor:
        """The k between each tick and its neighbours, 0 for itself and outside the segment."""
        B, _, T = like.shape
        index = torch.arange(T, device=like.device)
        time_BT = index.to(like.dtype).expand(B, T) if time_BT is None else time_BT
        time = self._distance(time_BT)
        price = torch.zeros_like(time) if price_BT is None else self._distance(price_BT)
        near, alike, smooth = (-2 * self.log_scales).exp() / 2
        both, alone = self.log_weights.exp()
        kernel = both * (-(time * near + price * alike)).exp() + alone * (-time * smooth).exp()
        neighbour_TN = index[:, None] + torch.arange(
            -self.before, self.after + 1, device=like.device
        )
        inside = (neighbour_TN >= 0) & (neighbour_TN < T) & (neighbour_TN != index[:, None])
        return kernel * inside

    def _distance(self, x_BT: Tensor) -> Tensor:
        """Squared differences between each tick and its neighbours; shape (B, T, N)."""
        return (self._neighbours(x_BT) - x_BT.unsqueeze(-1)).square()

    def _neighbours(self, x: Tensor) -> Tensor:
        """Shape (..., T) to (..., T, N): the window of each tick, itself in it."""
        padded = nn.functional.pad(x, (self.before, self.after))
        return padded.unfold(-1, self.before + 1 + self.after, 1)
