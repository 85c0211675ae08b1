"""The layers: each with its paper, its shapes and its receptive field.

`BLOCKS` names every block. Each class can be made of two small numbers, the channels in and its
own size (channels out, hidden size, growth or window), and of `nd` and `padding` where its `nds`
and `paddings` offer a choice. What they share means the same in each; docstrings say the rest:

- `in_channels`, `out_channels`: channels in and out.
- `kernel_size`: inputs that one output of a convolution weighs, on each axis.
- `stride`: inputs from one output to the next.
- `dilation`: inputs from one of the kernel's weights to the next.
- `bias`: whether each channel out has a constant.
- `width`: channels inside; those out if not given.
- `dropout`: probability with which training silences a value.
- `norm`: normalisation after each convolution: `batch`, `layer` (over channels) or `none`.
- `nd`: 1 for ticks, 2 for images.
- `padding`: `causal` (ticks only: output t sees inputs up to t), `symmetric` or `none`.
"""

from __future__ import annotations

from nexttick.networks.layers.block import Block
from nexttick.networks.layers.condensenet import CondenseBlock, LearnedGroupConv
from nexttick.networks.layers.convolution import Average, Conv, ConvBlock, Separable
from nexttick.networks.layers.crf import DenseCRF
from nexttick.networks.layers.densenet import DenseBlock, Transition
from nexttick.networks.layers.dilated import AtrousPyramid
from nexttick.networks.layers.recurrent import Recurrent
from nexttick.networks.layers.residual import Bottleneck, Residual
from nexttick.networks.layers.transposed import EncoderDecoder, TransposedConv

BLOCKS: dict[str, type[Block]] = {
    "conv": Conv,
    "conv-norm": ConvBlock,
    "average": Average,
    "residual": Residual,
    "bottleneck": Bottleneck,
    "dense": DenseBlock,
    "transition": Transition,
    "condense": CondenseBlock,
    "learned-groups": LearnedGroupConv,
    "separable": Separable,
    "pyramid": AtrousPyramid,
    "transposed": TransposedConv,
    "encoder-decoder": EncoderDecoder,
    "crf": DenseCRF,
    "recurrent": Recurrent,
}
