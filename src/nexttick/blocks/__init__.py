"""The layers: each with its paper, its shapes and its receptive field.

`BLOCKS` names every block. Each class can be made of two small numbers, the channels in and its
own size (channels out, hidden size, growth or window), and of `nd` and `padding` where its `nds`
and `paddings` offer a choice.
"""

from __future__ import annotations

from nexttick.blocks.block import Block
from nexttick.blocks.condensenet import CondenseBlock
from nexttick.blocks.convolution import Average, Conv, ConvBlock
from nexttick.blocks.crf import DenseCRF
from nexttick.blocks.densenet import DenseBlock, Transition
from nexttick.blocks.dilated import AtrousPyramid
from nexttick.blocks.learned_groups import LearnedGroupConv
from nexttick.blocks.recurrent import Recurrent
from nexttick.blocks.residual import Bottleneck, Residual
from nexttick.blocks.separable import Separable
from nexttick.blocks.transposed import EncoderDecoder, TransposedConv

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
