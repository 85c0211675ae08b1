"""Scoring with CondenseNet's layers before and after they are condensed.

    python -m bench.condense [--json] [--widths 64 128 256] [--repeats 15]

`pruned` is a block of learned group convolutions at the end of training, its dropped weights zero;
`condensed` is the same function as an index and grouped convolutions. Both score the same run of
ticks in turn within one run, on one thread; medians are compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import torch
from rich.table import Table

from bench import running
from nexttick.networks.layers.condensenet import CondenseBlock, condense_to, condensed
from nexttick.networks.models.anatomy import multiply_adds

TICKS = 4096
LAYERS = 4


@torch.inference_mode()
def measure_width(width: int, repeats: int) -> dict[str, float]:
    torch.manual_seed(0)
    pruned = CondenseBlock(width, width // 4, LAYERS, norm="layer").eval()
    condense_to(pruned, 1.0)
    small, x_BCT = condensed(pruned), torch.randn(1, width, TICKS)
    torch.testing.assert_close(small(x_BCT), pruned(x_BCT), rtol=1e-4, atol=1e-4)
    ways = {"pruned": lambda: pruned(x_BCT), "condensed": lambda: small(x_BCT)}
    medians = {f"{name}_ms": 1e3 * s for name, s in running.in_turns(ways, repeats).items()}
    return {
        **medians,
        "speedup": medians["pruned_ms"] / medians["condensed_ms"],
        "multiply_adds_share": multiply_adds(small, x_BCT) / multiply_adds(pruned, x_BCT),
    }


def measure(args: argparse.Namespace) -> running.Result:
    torch.set_num_threads(1)
    return {str(width): measure_width(width, args.repeats) for width in args.widths}


def show(result: running.Result) -> Iterator[Table]:
    keys = ("pruned_ms", "condensed_ms", "speedup", "multiply_adds_share")
    headings = ("channels", "pruned, ms", "condensed, ms", "speed-up", "multiply-adds, share")
    rows = ((width, *(f"{row[key]:.2f}" for key in keys)) for width, row in result.items())
    yield running.table(*headings, rows=rows)


def main(words: Sequence[str] | None = None) -> None:
    running.run(running.parser(__doc__, widths=[64, 128, 256], repeats=15), measure, show, words)


if __name__ == "__main__":
    main()
