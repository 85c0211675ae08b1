"""The networks: `MODELS` names them by type and architecture, `build_model` makes one."""

from __future__ import annotations

from collections.abc import Callable

from nexttick.networks.models.base import TickModel
from nexttick.networks.models.bodies import BODIES
from nexttick.networks.models.cnn import CNN, CondenseCNN
from nexttick.networks.models.deeplab import DeepLab
from nexttick.networks.models.fcn import build_fcn
from nexttick.networks.models.own import build_own
from nexttick.networks.models.rnn import RNN, PureRNN
from nexttick.options import ModelOptions, nearest

Builder = Callable[[ModelOptions, int, int], TickModel]

MODELS: dict[str, dict[str, Builder]] = {
    "cnn": {
        **dict.fromkeys(BODIES, CNN),
        "condense": CondenseCNN,
        "fcn": build_fcn,
        "deeplab": DeepLab,
    },
    "rnn": {**dict.fromkeys(RNN.layers_of, RNN), "pure": PureRNN},
}


def build_model(options: ModelOptions, num_features: int, num_horizons: int) -> TickModel:
    """A fresh network; its weights follow the seed of `torch.manual_seed`.

    What is unknown, or makes no network, is a ValueError.
    """
    if options.is_own:
        return build_own(options, num_features, num_horizons)
    if options.type not in MODELS:
        raise ValueError(f"model {options.type!r} is unknown: {nearest(options.type, MODELS)}")
    family = MODELS[options.type]
    arch = options.arch or next(iter(family))
    if arch not in family:
        raise ValueError(f"architecture {arch!r} is unknown: {nearest(arch, family)}")
    return family[arch](options, num_features, num_horizons)
