"""What the lab prints: short tables and verdicts."""

from __future__ import annotations

from typing import Any

from nexttick.cli.screen import console, plain_table, say


def show_vanishing(result: dict[str, Any]) -> None:
    """How much of each error signal reaches the beginning, and what was learned."""
    from nexttick.networks.lab.signals import relative

    options = result["options"]
    titles = {
        "ticks": f"Recurrent: {options['task']} problem, {options['length']} ticks",
        "layers": f"CNNs of {options['depth']} convolutions: copying over {options['delay']} ticks",
    }
    for part, title in titles.items():
        table = plain_table(title, "", "untrained", "trained", "right answers", "loss")
        for name, trained in result[part]["trained"].items():
            untrained = result[part]["untrained"][name]
            table.add_row(
                name,
                *(f"{relative(signal)[-1]:.1e}" for signal in (untrained, trained)),
                f"{trained['right']:.1%}",
                f"{trained['loss']:.4f}",
            )
        console.print(table)
        say(f"Without memory {result[part]['chance']:.1%} of the answers are right.")
    say(
        f"Untrained and trained: |dE_t/dh_k| at the beginning as a share of |dE_t/dh_t|, "
        f"{options['ticks']:,} and {options['length']} ticks back, "
        f"{options['depth']} convolutions back."
    )


def show_exploding(result: dict[str, Any]) -> None:
    """Where both descents ended."""
    from nexttick.networks.lab.exploding import furthest_step

    headings = ("", "steepest", "furthest step", "last error")
    table = plain_table("Gradient descent at a cliff", *headings)
    for name, words in (("plain", "without clipping"), ("clipped", "with clipping")):
        path = result[name]
        steepest, step = max(path["grad_norm"]), furthest_step(path)[1]
        table.add_row(words, f"{steepest:.3g}", f"{step:.3g}", f"{path['error'][-1]:.4f}")
    console.print(table)


def show_example(result: dict[str, Any]) -> None:
    """The seven by seven means."""
    for row in result["result"]:
        say(" ".join(f"{value:6.2f}" for value in row))


def show_health(records: list[dict[str, Any]]) -> None:
    """A line an epoch, and each different sentence once."""
    table = plain_table("Health of the gradients", "epoch", "train", "valid", "clipped", "verdict")
    for record in records:
        table.add_row(
            str(record["epoch"]),
            f"{record['train_loss']:.4g}",
            f"{record['valid_loss']:.4g}",
            f"{record['clipped']:.0%}",
            record["health"]["verdict"],
        )
    console.print(table)
    for record in records:
        for words in record["health"]["words"]:
            say(f"epoch {record['epoch']}: {words}")
