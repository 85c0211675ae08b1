"""Norm clipping: the lecture's algorithm 1 (Pascanu et al. 2012, arXiv:1211.5063, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip_norm(parameters: Iterable[Tensor], threshold: float, epsilon: float = 0.0) -> Tensor:
    """Scale the gradient of all parameters together down to a norm, where it is larger.

    g = dE/dθ; if |g| >= threshold: g <- threshold / |g| g. The direction stays, the length is cut.

    Args:
        parameters: those without a gradient are passed over.
        threshold: the largest norm, above 0.
        epsilon: is added to |g|; 1e-6 gives the numbers of `torch.nn.utils.clip_grad_norm_`.

    Returns:
        The norm before.

    Raises:
        ValueError: the threshold is not above 0.
    """
    if not threshold > 0:
        raise ValueError(f"threshold {threshold}: give a norm above 0")
    gradients = [weight.grad for weight in parameters if weight.grad is not None]
    squares = [gradient.square().sum() for gradient in gradients]
    norm = torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
    if norm + epsilon >= threshold:
        for gradient in gradients:
            gradient.mul_(threshold / (norm + epsilon))
    return norm
