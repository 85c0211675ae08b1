"""How long an output is, how much is padded, and what is cut off beside a path without padding.

Formulas: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning"
(arXiv:1603.07285), sections 2 and 4. Lengths are those of one axis; in two dimensions both axes
follow the same rule.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Padding = Literal["causal", "symmetric", "none"]


def check_positive(owner: str, **sizes: int) -> None:
    """Refuse sizes below 1, all of them in one message."""
    wrong = [f"{name}={size}" for name, size in sizes.items() if size < 1]
    if wrong:
        raise ValueError(f"{owner}: {', '.join(wrong)}; give whole numbers from 1 up")


def check_divides(owner: str, **pairs: tuple[int, int]) -> None:
    """Refuse the first `name=(whole, part)` whose part does not divide its whole."""
    for name, (whole, part) in pairs.items():
        if whole % part:
            raise ValueError(f"{owner}: {name}={whole} does not divide by {part}; change either")


def reach(kernel_size: int, dilation: int = 1) -> int:
    """Inputs that a kernel covers beside its first: dilation (kernel_size - 1)."""
    return dilation * (kernel_size - 1)


def output_length(
    length: int, kernel_size: int, *, stride: int = 1, dilation: int = 1, padded: int = 0
) -> int:
    """Outputs of a convolution over `length` inputs and `padded` zeros, both sides together.

    floor((length + padded - dilation (kernel_size - 1) - 1) / stride) + 1; a ValueError where the
    kernel is longer than what it slides over.
    """
    room = length + padded - reach(kernel_size, dilation) - 1
    if room < 0:
        raise ValueError(
            f"length={length}: the kernel covers {reach(kernel_size, dilation) + 1} inputs "
            f"and {padded} zeros are padded; give {-room} inputs more, or pad"
        )
    return room // stride + 1


def transposed_length(
    length: int, kernel_size: int, *, stride: int = 1, dilation: int = 1, cropped: int = 0
) -> int:
    """Outputs of a transposed convolution, `cropped` of them cut off, both sides together.

    (length - 1) stride + dilation (kernel_size - 1) + 1 - cropped.
    """
    return (length - 1) * stride + reach(kernel_size, dilation) + 1 - cropped


def margins(total: int, padding: Padding, nd: int) -> tuple[int, int]:
    """Zeros before and after, of `total` that keep a length.

    Causal: all before, so that output t sees inputs up to t. Symmetric: half on each side.
    """
    if padding == "none":
        return 0, 0
    if padding == "causal":
        if nd != 1:
            raise ValueError(f"padding='causal' with nd={nd}: an image has no past; 'symmetric'")
        return total, 0
    if padding != "symmetric":
        raise ValueError(f"padding={padding!r}: choose 'causal', 'symmetric' or 'none'")
    if total % 2:
        raise ValueError(
            f"padding='symmetric': {total} places have no half on each side; "
            "change kernel_size by one, or take 'causal'"
        )
    return total // 2, total // 2


def trim(x: Tensor, total: int, nd: int) -> Tensor:
    """What lies beside the outputs of a path that lost `total` inputs for want of padding.

    In time the latest, so that a path without padding is the causal one after its warm-up; in an
    image the middle. Shapes: (B, C, T) to (B, C, T - total), or both last axes alike.
    """
    before = total if nd == 1 else total // 2
    return cut(x, before, total - before, nd)


def cut(x: Tensor, before: int, after: int, nd: int) -> Tensor:
    """`x` without its first `before` and last `after` places on each of its `nd` last axes."""
    for axis in range(x.dim() - nd, x.dim()):
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x
