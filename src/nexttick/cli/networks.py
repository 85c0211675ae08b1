"""What `nexttick describe` and `nexttick export` do: a network's layers, and its ONNX file."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from nexttick.checks import validate
from nexttick.cli import screen
from nexttick.learn import run_folder
from nexttick.learn.predictor.onnx import export as write_graph
from nexttick.networks.models import build_model
from nexttick.networks.models.anatomy import Layer, describe_model
from nexttick.networks.models.base import TickModel
from nexttick.options import LabelOptions, ModelOptions, Recipe, named_model
from nexttick.prepare.dataset import recipe_spec


def describe(what: str, options: ModelOptions, horizons: tuple[str, ...], *, as_json: bool) -> None:
    """`nexttick describe`: layer, shape, parameters, multiply-adds and receptive field."""
    if (Path(what) / "predictor").is_dir():
        predictor, _ = run_folder.load_trained(Path(what))
        options, model, horizons = predictor.model_options, predictor.model, predictor.horizons
        num_features = len(predictor.spec.names)
    else:
        recipe = Recipe(model=named_model(what, options), labels=LabelOptions(horizons))
        validate(recipe)
        options, num_features = recipe.model, len(recipe_spec(recipe, 0).names)
        model = build_model(options, num_features, len(horizons)).finished()
    layers = describe_model(model, num_features)
    if as_json:
        screen.say(json.dumps(_report(options, model, layers), indent=1))
        return
    screen.show_model(options.name, model, layers)
    if options.type == "cnn" and options.arch not in (None, "plain"):
        plain = build_model(replace(options, arch="plain"), num_features, len(horizons))
        screen.show_cost(options.name, layers, describe_model(plain, num_features))


def export(run: Path, output: Path) -> None:
    """`nexttick export`: one step of a trained network as an ONNX file."""
    predictor, _ = run_folder.load_trained(run)
    write_graph(predictor, output)
    horizons = ", ".join(f"p_{name}" for name in predictor.horizons)
    screen.say(
        f"{output}: one step of {predictor.model_options.name}, to {horizons}; "
        f"valid from {predictor.model.context} events on"
    )


def _report(options: ModelOptions, model: TickModel, layers: list[Layer]) -> dict[str, object]:
    return {
        "model": asdict(options),
        "context": model.context,
        "dense": model.dense,
        "parameters": sum(layer.parameters for layer in layers),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "layers": [asdict(layer) for layer in layers],
    }
