"""The networks: `MODELS` names them, `build_model` makes one."""

from __future__ import annotations

from nexttick.config import ModelOptions
from nexttick.models.base import TickModel
from nexttick.models.cnn import CNN
from nexttick.models.rnn import RNN

MODELS: dict[str, type[CNN] | type[RNN]] = {"cnn": CNN, "rnn": RNN}


def build_model(options: ModelOptions, num_features: int, num_horizons: int) -> TickModel:
    """A fresh network; its weights follow the seed of `torch.manual_seed`."""
    return MODELS[options.type](options, num_features, num_horizons)
