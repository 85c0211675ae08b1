"""Runs, windows and segments against naive slicing: nothing crosses a gap or a part's end."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from helpers.markets import quick, seeds
from nexttick.learn.batches import (
    Runs,
    SegmentDataset,
    WindowDataset,
    cut_runs,
    gather,
    predictable,
    shuffled_batches,
)
from nexttick.prepare.labels import MISSING

F, H = 3, 2
contexts, lengths = st.integers(1, 9), st.integers(1, 20)


pytestmark = pytest.mark.usefixtures("one_thread")


class Rows:
    """Features that tell their row, labels with some missing, and a few segments."""

    def __init__(self, seed: int, n: int = 100):
        rng = np.random.default_rng(seed)
        self.n = n
        self.x_NF = rng.normal(size=(n, F)).astype(np.float32)
        self.x_NF[:, 0] = np.arange(n)
        self.y_NH = rng.choice(np.array([0, 1, 1, 0, MISSING], np.int8), (n, H))
        inner = rng.choice(np.arange(1, n), rng.integers(0, 8), replace=False)
        self.starts = np.array([0, *sorted(inner)])
        self.part = tuple(sorted(rng.integers(0, n + 1, 2).tolist()))

    def segment_of(self, row: int) -> int:
        return int(np.searchsorted(self.starts, row, side="right"))

    def is_predictable(self, row: int, context: int, part: tuple[int, int]) -> bool:
        oldest = row - context + 1
        in_one_segment = oldest >= 0 and self.segment_of(oldest) == self.segment_of(row)
        return part[0] <= row < part[1] and in_one_segment

    def predictable(self, context: int, part: tuple[int, int]) -> list[int]:
        return [row for row in range(self.n) if self.is_predictable(row, context, part)]

    def gather(self, runs: Runs, context: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        batch = gather(
            torch.from_numpy(self.x_NF), torch.from_numpy(self.y_NH), runs, context, length
        )
        return batch.x_BTF.numpy(), batch.y_BKH.numpy()


@quick
@given(seeds, contexts)
def test_predictable_events_have_their_history_in_one_segment(seed: int, context: int) -> None:
    rows = Rows(seed)
    ranges = predictable(rows.starts, rows.n, context, rows.part)
    found = [row for first, stop in ranges for row in range(first, stop)]
    assert found == rows.predictable(context, rows.part)


@quick
@given(seeds, contexts, lengths, st.data())
def test_every_predictable_event_is_covered_at_any_offset(
    seed: int, context: int, length: int, data: st.DataObject
) -> None:
    rows = Rows(seed)
    offset = data.draw(st.integers(0, length - 1))
    ranges = predictable(rows.starts, rows.n, context, rows.part)
    runs = cut_runs(ranges, length, offset)
    covered = Counter(
        row
        for first, last in zip(runs.first, runs.last, strict=True)
        for row in range(first, min(first + length, last + 1))
    )
    assert sorted(covered) == rows.predictable(context, rows.part)
    if offset == 0:
        assert set(covered.values()) <= {1}
    assert runs.predictions(length) == sum(covered.values())


@quick
@given(seeds, contexts, lengths, st.data())
def test_gathered_runs_equal_naive_slices(
    seed: int, context: int, length: int, data: st.DataObject
) -> None:
    rows = Rows(seed)
    offset = data.draw(st.integers(0, length - 1))
    runs = cut_runs(predictable(rows.starts, rows.n, context, rows.part), length, offset)
    x_BTF, y_BKH = rows.gather(runs, context, length)
    assert x_BTF.shape == (len(runs.first), context - 1 + length, F)
    assert y_BKH.shape == (len(runs.first), length, H)
    for x_TF, y_KH, first, last in zip(x_BTF, y_BKH, runs.first, runs.last, strict=True):
        kept = min(length, last - first + 1)
        history = slice(first - context + 1, first + kept)
        np.testing.assert_array_equal(x_TF[: context - 1 + kept], rows.x_NF[history])
        np.testing.assert_array_equal(y_KH[:kept], rows.y_NH[first : first + kept])
        # What is left of the run repeats its last tick and asks nothing of it.
        assert (x_TF[context - 1 + kept :] == rows.x_NF[last]).all()
        assert (y_KH[kept:] == MISSING).all()


@quick
@given(seeds, contexts, lengths)
def test_no_gathered_run_crosses_a_gap_or_the_end_of_its_part(
    seed: int, context: int, length: int
) -> None:
    rows = Rows(seed)
    ranges = predictable(rows.starts, rows.n, context, rows.part)
    rng = np.random.default_rng(seed)
    for runs in shuffled_batches(ranges, length, 3, rng):
        x_BTF, _ = rows.gather(runs, context, length)
        for seen in x_BTF[:, :, 0].astype(int):
            assert rows.segment_of(seen.min()) == rows.segment_of(seen.max())
            assert seen.max() < rows.part[1]
            assert (np.diff(seen) >= 0).all()


@quick
@given(seeds, contexts, lengths, st.integers(1, 5))
def test_shuffled_batches_are_full_repeatable_and_cover_all(
    seed: int, context: int, length: int, batch: int
) -> None:
    rows = Rows(seed)
    ranges = predictable(rows.starts, rows.n, context, (0, rows.n))
    first, again = (
        list(shuffled_batches(ranges, length, batch, np.random.default_rng(seed))) for _ in "ab"
    )
    assert [runs.first.tolist() for runs in first] == [runs.first.tolist() for runs in again]
    assert all(len(runs.first) == batch for runs in first[:-1])
    covered = {
        row
        for runs in first
        for begin, last in zip(runs.first, runs.last, strict=True)
        for row in range(begin, min(begin + length, last + 1))
    }
    assert sorted(covered) == rows.predictable(context, (0, rows.n))


def test_epochs_see_other_runs_in_another_order() -> None:
    rng = np.random.default_rng(1)
    epochs = [
        np.concatenate([runs.first for runs in shuffled_batches([(5, 500)], 16, 4, rng)])
        for _ in range(2)
    ]
    assert not np.array_equal(epochs[0], np.sort(epochs[0]))
    assert set(epochs[0]) != set(epochs[1])


def test_no_ranges_are_no_runs() -> None:
    runs = cut_runs([], 8)
    assert len(runs.first) == len(runs.last) == runs.predictions(8) == 0
    assert list(shuffled_batches([], 8, 2, np.random.default_rng(0))) == []


# Datasets


@quick
@given(seeds, contexts)
def test_windows_equal_naive_slices(seed: int, context: int) -> None:
    rows = Rows(seed)
    windows = WindowDataset(rows.x_NF, rows.y_NH, rows.starts, context)
    whole = rows.predictable(context, (0, rows.n))
    labelled = [row for row in whole if (rows.y_NH[row] != MISSING).all()]
    assert len(windows) == len(labelled)
    for k, row in enumerate(labelled):
        x_LF, y_H = windows[k]
        np.testing.assert_array_equal(x_LF, rows.x_NF[row - context + 1 : row + 1])
        np.testing.assert_array_equal(y_H, rows.y_NH[row])


@quick
@given(seeds, contexts, lengths)
def test_segments_hold_the_windows(seed: int, context: int, length: int) -> None:
    rows = Rows(seed)
    windows = WindowDataset(rows.x_NF, rows.y_NH, rows.starts, context)
    segments = SegmentDataset(rows.x_NF, rows.y_NH, rows.starts, context, length)
    unfolded = []
    for x_TF, y_KH in segments:  # type: ignore[attr-defined]
        assert x_TF.shape == (context - 1 + length, F)
        for k in torch.nonzero((y_KH != MISSING).all(dim=1)).flatten():
            unfolded.append((x_TF[k : k + context], y_KH[k]))
    assert len(unfolded) == len(windows)
    for (x_LF, y_H), (x_window, y_window) in zip(unfolded, windows, strict=True):  # type: ignore[call-overload]
        assert torch.equal(x_LF, x_window)
        assert torch.equal(y_H, y_window)


def test_both_datasets_work_in_a_data_loader() -> None:
    rows = Rows(3)
    windows = WindowDataset(rows.x_NF, rows.y_NH, rows.starts, 4)
    segments = SegmentDataset(rows.x_NF, rows.y_NH, rows.starts, 4, 10)
    for dataset, ticks, labels in ((windows, (4, F), (H,)), (segments, (13, F), (10, H))):
        loaded = list(DataLoader(dataset, batch_size=5, shuffle=True))
        assert sum(len(x) for x, _ in loaded) == len(dataset) > 5
        x, y = loaded[0]
        assert x.shape == (5, *ticks)
        assert y.shape == (5, *labels)
        assert x.dtype == y.dtype == torch.float32


@pytest.mark.parametrize("kind", [WindowDataset, SegmentDataset])
def test_a_market_shorter_than_a_window_has_no_samples(kind: type) -> None:
    rows = Rows(1)
    extra = (8,) if kind is SegmentDataset else ()
    dataset = kind(rows.x_NF[:5], rows.y_NH[:5], np.array([0]), 6, *extra)
    assert len(dataset) == 0
    with pytest.raises(IndexError):
        dataset[0]
