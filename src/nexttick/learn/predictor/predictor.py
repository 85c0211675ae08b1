"""The artefact that leaves training: feature spec, scaler, model and provenance, in one folder.

Weights are safetensors, everything else is JSON that can be read; no pickle is ever loaded.
`predict` computes a history densely; a `Stepper` takes one event after the other, and gives the
same numbers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from safetensors.torch import save as weights_to_bytes

from nexttick.learn.formats import check_format, read_json
from nexttick.learn.predictor.calibration import Calibration, from_json, to_json
from nexttick.learn.predictor.training_shares import TrainingShares
from nexttick.networks.models import build_model
from nexttick.networks.models.base import Past, TickModel
from nexttick.options import ModelOptions
from nexttick.prepare.dataset import Scaler
from nexttick.prepare.events import merge_chunks
from nexttick.prepare.features import REVISION, FeatureSpec, compute_features
from nexttick.ticks.gaps import pieces, segment_starts
from nexttick.ticks.writing import write_text, write_whole

FORMAT = 4
_CHUNK = 8192  # events scored in one call: large enough for speed, small enough for the cache


class Scores(NamedTuple):
    """Probabilities of N events at H horizons, NaN where the history is too short."""

    p_NH: NDArray[np.float32]  # as they are said: calibrated
    raw_NH: NDArray[np.float32]
    past: Past | None  # what the network remembers of the last segment


@dataclass
class Predictor:
    """A trained network and all it needs to speak about ticks.

    Attributes:
        horizons: H names, `rise@h`.
        raw_ticks: whether it was trained on ticks kept apart.
        provenance: recipe, data hash, times and epochs of the training, version of torch.
        calibration: what maps each horizon's raw probabilities to those that are said; none
            where they are said as they are.
        training_shares: how the features lay in training, before scaling; None where that was
            not kept.
    """

    spec: FeatureSpec
    scaler: Scaler
    model_options: ModelOptions
    horizons: tuple[str, ...]
    model: TickModel
    raw_ticks: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)
    calibration: tuple[Calibration, ...] = ()
    training_shares: TrainingShares | None = None

    def predict(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Probabilities of a rise for every event of a run of ticks.

        Args:
            ticks: the tick record, cleaned and in time order.

        Returns:
            `time` (ns), `price`, and one `p_rise@h` a horizon; null where there is less history
            than the model's context.
        """
        return pl.concat(self.predict_chunks([ticks]))

    def predict_chunks(self, chunks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """`predict` over consecutive pieces, of any length, of a history; in bounded memory."""
        state, last_ns, past = self.spec.initial_state(), None, None
        for events in merge_chunks(chunks, raw_ticks=self.raw_ticks):
            time_ns = events["time"].to_numpy()
            x_NF = self.scaler(compute_features(events, self.spec, state))
            starts = segment_starts(time_ns, self.spec.max_gap_ns)
            if last_ns is not None and time_ns[0] - last_ns > self.spec.max_gap_ns:
                past = None
            p_NH, _, past = self.score(x_NF, starts, past)
            yield as_table(events, self.horizons, p_NH)
            last_ns = time_ns[-1] if len(time_ns) else None

    @torch.inference_mode()
    def score(
        self, x_NF: NDArray[np.float32], starts: NDArray[np.int64], past: Past | None = None
    ) -> Scores:
        """Probabilities from scaled features of consecutive events, segment by segment.

        `past` is what is remembered of the events before, where the first segment goes on.
        """
        self.model.eval()
        device = next(self.model.parameters()).device
        raw_NH = np.full((len(x_NF), len(self.horizons)), np.nan, np.float32)
        for start, stop in pairwise([*starts.tolist(), len(x_NF)]):
            past = past if start == 0 else None
            for piece, rows in pieces(stop - start, _CHUNK):
                x_TF = torch.from_numpy(x_NF[start + piece : start + rows]).to(device)
                logits_KH, past = self.model.advance(x_TF, past)
                ready = raw_NH[start + rows - len(logits_KH) : start + rows]
                if len(ready):
                    ready[:] = torch.sigmoid(logits_KH).float().cpu().numpy()
        return Scores(self.calibrated(raw_NH), raw_NH, past)

    def calibrated(self, p_NH: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw probabilities as they are said."""
        if not self.calibration:
            return p_NH
        columns = [curve(p) for curve, p in zip(self.calibration, p_NH.T, strict=True)]
        return np.stack(columns, axis=1).astype(np.float32)

    def fingerprint(self) -> str:
        """SHA-256 of all that decides a prediction: features, scaling, weights, calibration."""
        decides = {"weights": _sha256(self._weights()), **self._description()}
        if self.spec.revision == 1:
            # The first revision had no number yet when journals began to keep fingerprints.
            del decides["features"]["revision"]
        return _sha256(json.dumps(decides, sort_keys=True).encode())

    def save(self, folder: Path) -> None:
        """Write the predictor as a new folder, whole or not at all."""
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            weights = self._weights()
            write_whole(partial / "weights.safetensors", lambda file: file.write(weights))
            description = {
                "format": FORMAT,
                "nexttick": version("nexttick"),
                "weights_sha256": _sha256(weights),
                **self._description(),
                "training_shares": self.training_shares and self.training_shares.to_json(),
                "provenance": self.provenance,
            }
            write_text(partial / "predictor.json", json.dumps(description, indent=1) + "\n")
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    def _weights(self) -> bytes:
        state = self.model.state_dict()
        return weights_to_bytes({k: v.cpu().contiguous() for k, v in state.items()})

    def _description(self) -> dict[str, Any]:
        """All that decides a prediction beside the weights, as plain values."""
        return {
            "features": {**asdict(self.spec), "names": self.spec.names},
            "scaler": {"mean": self.scaler.mean.tolist(), "scale": self.scaler.scale.tolist()},
            "model": asdict(self.model_options),
            "horizons": self.horizons,
            "raw_ticks": self.raw_ticks,
            "calibration": to_json(list(self.calibration)),
        }

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> Predictor:
        """Read a predictor back.

        That a file is missing, damaged, of another format, or does not fit the others is a
        `ValueError`.
        """
        path = folder / "predictor.json"
        values = read_json(
            path, f"{folder} holds no predictor: name a run folder made by train or run"
        )
        form = values.get("format") if isinstance(values, dict) else None
        check_format(path, form, 3, FORMAT)
        try:
            if form == 3:
                # Format 4 numbers the revision of the features, and calls the shares by name.
                values["features"]["revision"] = 1
                values["training_shares"] = values["reference"]
            predictor = cls._assembled(folder, values)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(
                f"{folder}: predictor.json is damaged or does not fit the weights "
                f"({type(error).__name__}: {error}): train again"
            ) from error
        predictor.model.to(device)
        return predictor

    @classmethod
    def _assembled(cls, folder: Path, values: dict[str, Any]) -> Predictor:
        weights = folder / "weights.safetensors"
        if not weights.exists() or _sha256(weights.read_bytes()) != values["weights_sha256"]:
            raise ValueError(f"{weights}: missing, or not the weights that predictor.json names")
        features = dict(values["features"])
        names = features.pop("names")
        other_version = (
            f"nexttick {version('nexttick')} (it was made by {values['nexttick']}): "
            "train again, or use that version"
        )
        if features["revision"] != REVISION:
            raise ValueError(
                f"{folder}: its features are of revision {features['revision']!r}, not "
                f"{REVISION} as those of {other_version}"
            )
        half_lives = {key: tuple(features[key]) for key in ("half_lives_events", "half_lives_s")}
        spec = FeatureSpec(**features | half_lives)
        if list(spec.names) != names:
            raise ValueError(f"{folder}: its features are not those of {other_version}")
        options = ModelOptions(**values["model"])
        model = build_model(options, len(spec.names), len(values["horizons"])).finished()
        model.load_state_dict(load_file(weights))
        mean, scale = (np.array(values["scaler"][key], np.float32) for key in ("mean", "scale"))
        if not len(mean) == len(scale) == len(spec.names):
            raise ValueError(f"{folder}: its scaler is not one of {len(spec.names)} features")
        kept = values["training_shares"]
        shares = None if kept is None else TrainingShares.from_json(kept)
        if shares is not None and len(shares.edges) != len(spec.names):
            raise ValueError(f"{folder}: its training shares are not of {len(spec.names)} features")
        return cls(
            spec,
            Scaler(mean, scale),
            options,
            tuple(values["horizons"]),
            model.eval(),
            values["raw_ticks"],
            values["provenance"],
            tuple(from_json(values["calibration"])),
            shares,
        )


def as_table(
    events: pl.DataFrame, horizons: tuple[str, ...], p_NH: NDArray[np.floating]
) -> pl.DataFrame:
    """Predictions as a table: `time`, `price`, `p_rise@h`, null where there is none."""
    columns = [pl.Series(f"p_{name}", p_NH[:, h]) for h, name in enumerate(horizons)]
    return events.select("time", "price").with_columns(one.fill_nan(None) for one in columns)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
