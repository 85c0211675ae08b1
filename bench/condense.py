"""Scoring with CondenseNet's layers before and after they are condensed.

    python -m bench.condense [--json] [--widths 64 128 256] [--repeats 15]

`pruned` is a block of learned group convolutions at the end of training, its dropped weights zero;
`condensed` is the same function as an index and grouped convolutions. Both score the same run of
ticks in turn within one run, on one thread; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from nexttick.networks.layers.condensenet import CondenseBlock, condense_to, condensed
from nexttick.networks.layers.cost import multiply_adds

TICKS = 4096
LAYERS = 4


@torch.inference_mode()
def seconds(network: nn.Module, x_BCT: Tensor) -> float:
    start = time.perf_counter()
    network(x_BCT)
    return time.perf_counter() - start


def measure(width: int, repeats: int) -> dict[str, float]:
    torch.manual_seed(0)
    pruned = CondenseBlock(width, width // 4, LAYERS, norm="layer").eval()
    condense_to(pruned, 1.0)
    small, x_BCT = condensed(pruned), torch.randn(1, width, TICKS)
    torch.testing.assert_close(small(x_BCT), pruned(x_BCT), rtol=1e-4, atol=1e-4)
    spent: dict[str, list[float]] = {"pruned": [], "condensed": []}
    for turn in range(repeats + 1):
        for name, network in (("pruned", pruned), ("condensed", small)):
            took = seconds(network, x_BCT)
            if turn:
                spent[name].append(took)
    medians = {f"{name}_ms": 1e3 * statistics.median(took) for name, took in spent.items()}
    return {
        **medians,
        "speedup": medians["pruned_ms"] / medians["condensed_ms"],
        "multiply_adds_share": multiply_adds(small, x_BCT) / multiply_adds(pruned, x_BCT),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = {str(width): measure(width, args.repeats) for width in args.widths}
    if args.json:
        print(json.dumps(result))
        return
    table = Table("channels", "pruned, ms", "condensed, ms", "speed-up", "multiply-adds, share")
    for width, told in result.items():
        numbers = (told["pruned_ms"], told["condensed_ms"], told["speedup"])
        cells = (f"{number:.2f}" for number in (*numbers, told["multiply_adds_share"]))
        table.add_row(width, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
