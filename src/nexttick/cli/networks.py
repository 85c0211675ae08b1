"""Commands on networks: their layers, and their ONNX files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from nexttick.checks import validate
from nexttick.cli import screen
from nexttick.cli.arguments import Flag, Network, OutFile, RunFolder, words
from nexttick.learn import run_folder
from nexttick.options import LabelOptions, ModelOptions, Recipe, named_model
from nexttick.ticks.writing import check_path


def describe(
    model: Annotated[Positional[str], words("MODEL")],
    network: Network = ModelOptions(),
    horizon: Annotated[tuple[str, ...], words("H…")] = LabelOptions.horizon,
    json: Flag = False,
) -> None:
    """Show a network's layers: shape, parameters, multiply-adds, memory.

    How far back a layer sees is its receptive field, in ticks.

    Args:
        model: cnn, rnn, an architecture (dense, gru, cnn-residual), MODULE:CLASS, or a run folder.
        horizon: what it is asked; one answer each.
        json: print one JSON object instead of a table.
    """
    trained = (Path(model) / "predictor").is_dir()
    recipe = Recipe(labels=LabelOptions(horizon))
    if not trained:
        recipe = replace(recipe, model=named_model(model, network))
        validate(recipe)

    from nexttick.networks.models import build_model
    from nexttick.networks.models.anatomy import describe_model
    from nexttick.prepare.dataset import recipe_spec

    if trained:
        predictor, _ = run_folder.load_trained(Path(model))
        options, built = predictor.model_options, predictor.model
        num_features, num_horizons = len(predictor.spec.names), len(predictor.horizons)
    else:
        options, num_horizons = recipe.model, len(horizon)
        num_features = len(recipe_spec(recipe, 0).names)
        built = build_model(options, num_features, num_horizons).finished()
    layers = describe_model(built, num_features)
    if json:
        screen.print_json(
            {
                "model": asdict(options),
                "context": built.context,
                "dense": built.dense,
                "parameters": sum(layer.parameters for layer in layers),
                "multiply_adds": sum(layer.multiply_adds for layer in layers),
                "layers": [asdict(layer) for layer in layers],
            }
        )
        return
    screen.show_model(options.name, built, layers)
    if options.type == "cnn" and options.arch not in (None, "plain"):
        plain = build_model(replace(options, arch="plain"), num_features, num_horizons)
        screen.show_cost(options.name, layers, describe_model(plain, num_features))


def export(run: RunFolder, output: OutFile) -> None:
    """Write one step of a trained network as an ONNX file.

    It is for use elsewhere: unscaled features and state go in, probabilities and state come out;
    docs/export.md says how.

    Args:
        run: run folder made by train or run.
        output: .onnx file to write.
    """
    run_folder.check_trained(run)
    check_path(output, (".onnx",))

    from nexttick.learn.predictor.onnx import export as write_graph

    predictor, _ = run_folder.load_trained(run)
    write_graph(predictor, output)
    horizons = ", ".join(f"p_{name}" for name in predictor.horizons)
    screen.say(
        f"{output}: one step of {predictor.model_options.name}, to {horizons}; "
        f"valid from {predictor.model.context} events on"
    )
