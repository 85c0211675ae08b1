"""Commands of the lab: experiments on gradients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from nexttick.cli import screen, screen_lab
from nexttick.cli.arguments import Flag, Folder, RunFolder
from nexttick.learn import run_folder
from nexttick.networks.lab.experiments import ExplodingOptions, VanishingOptions, check
from nexttick.ticks.writing import explained, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def vanishing(
    out: Folder = Path("runs/lab-vanishing"),
    overwrite: Flag = False,
    experiment: Annotated[VanishingOptions, arg(name="Experiment")] = VanishingOptions(),
) -> None:
    """Follow error signals back through ticks and layers.

    Before training and after.

    Args:
        out: folder for vanishing.png, .svg and .json.
        overwrite: replace earlier ones there.
    """
    check(experiment)
    with _results(out, "vanishing", overwrite):
        from nexttick.networks.lab import vanishing

        result = vanishing.run(experiment, screen.say)
        _write(out, "vanishing", result, lambda: vanishing.draw(result))
        screen_lab.show_vanishing(result)


def exploding(
    out: Folder = Path("runs/lab-exploding"),
    overwrite: Flag = False,
    experiment: Annotated[ExplodingOptions, arg(name="Experiment")] = ExplodingOptions(),
) -> None:
    """Let gradient descent meet a cliff, with norm clipping and without.

    Args:
        out: folder for exploding.png, .svg and .json.
        overwrite: replace earlier ones there.
    """
    check(experiment)
    with _results(out, "exploding", overwrite):
        from nexttick.networks.lab import exploding

        result = exploding.run(experiment)
        _write(out, "exploding", result, lambda: exploding.draw(result))
        screen_lab.show_exploding(result)


def example(out: Folder = Path("runs/lab-example"), overwrite: Flag = False) -> None:
    """Compute and draw the lecture's worked example of a convolution.

    Args:
        out: folder for example.png, .svg and .json.
        overwrite: replace earlier ones there.
    """
    with _results(out, "example", overwrite):
        from nexttick.networks.lab import worked_example

        result = worked_example.run()
        _write(out, "example", result, lambda: worked_example.draw(result))
        screen_lab.show_example(result)


def health(run: RunFolder, out: Folder = Path("runs/lab-health"), overwrite: Flag = False) -> None:
    """Draw what a training recorded of its gradients.

    It says what is wrong with them, too.

    Args:
        run: run folder made by train or run.
        out: folder for health.png, .svg and .json.
        overwrite: replace earlier ones there.
    """
    from nexttick.networks.lab.health import draw, with_health

    records = with_health(run_folder.read_log(run), run)
    with _results(out, "health", overwrite):
        _write(out, "health", {"run": str(run), "epochs": records}, lambda: draw(records))
        screen_lab.show_health(records)


COMMANDS: dict[str, Callable[..., None]] = {
    command.__name__: command for command in (vanishing, exploding, example, health)
}


@contextmanager
def _results(out: Path, name: str, overwrite: Flag) -> Iterator[None]:
    """Make the folder before the work, and take it away again where nothing comes of it."""
    from nexttick.networks.lab.drawing import FORMATS

    earlier = [f"{name}.{kind}" for kind in (*FORMATS, "json") if (out / f"{name}.{kind}").exists()]
    if earlier and not overwrite:
        raise ValueError(
            f"{out} holds {', '.join(earlier)}: give another --out, or --overwrite to replace them"
        )
    before = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"{out} is a file: give --out a folder") from None
    except OSError as error:
        raise explained(error, out) from error
    try:
        yield
    except BaseException:
        for made in before:
            if not any(made.iterdir()):
                made.rmdir()
        raise


def _write(out: Path, name: str, result: dict[str, Any], draw: Callable[[], Figure]) -> None:
    from nexttick.networks.lab.drawing import save_picture

    write_text(out / f"{name}.json", json.dumps(result, allow_nan=False) + "\n")
    save_picture(out, name, draw)
    screen.say(f"Picture and numbers are in {out}")
