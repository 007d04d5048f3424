"""The figures that need no frames, and what all of them are made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpool.bootstrap import Recalls
from xpool_platform.evaluate.slices import quantile_slices
from xpool_platform.tracking.figures import histograms
from xpool_platform.tracking.figures.histograms import (
    pair_similarities,
    rank_bins,
    rank_figure,
    similarity_figure,
)
from xpool_platform.tracking.figures.shown_text import NO_GLYPH, quoted
from xpool_platform.tracking.figures.slices import Slicing, slices_figure
from xpool_platform.tracking.figures.strips import strip_image
from xpool_platform.tracking.figures.training_curves import training_curves_figure


@given(num_videos=st.integers(1, 100_000))
def test_rank_bins_hold_every_rank_once(num_videos):
    bins = rank_bins(num_videos)
    assert bins[0] == (1, 1)
    assert bins[-1][1] == num_videos
    assert all(first <= last for first, last in bins)
    assert [first for first, _ in bins[1:]] == [last + 1 for _, last in bins[:-1]]
    assert len(bins) <= 17


def test_rank_bars_are_shares_of_the_queries():
    ranks = {"t2v": np.array([1, 1, 2, 4, 5, 6, 12, 12]), "v2t": np.array([1, 3])}
    axes = rank_figure(ranks, 12).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        *("1", "2", "3", "4–5", "6–10", "11–12")
    ]
    t2v, v2t = ([bar.get_height() for bar in bars] for bars in axes.containers)
    assert t2v == [25, 12.5, 0, 25, 12.5, 25]
    assert v2t == [50, 0, 50, 0, 0, 0]


@pytest.mark.parametrize("at_most", [70, 10**6])
def test_other_pairs_are_never_matching_ones(monkeypatch, at_most):
    monkeypatch.setattr(histograms, "MAX_OTHER_PAIRS", at_most)
    scores = np.arange(120.0).reshape(40, 3)
    matching, other = pair_similarities(scores, np.arange(40) % 3)
    assert matching.tolist() == [3 * text + text % 3 for text in range(40)]
    assert not set(other) & set(matching)
    if at_most == 70:
        assert len(other) == 70
    else:
        assert sorted([*other, *matching]) == scores.ravel().tolist()


def test_similarities_are_densities():
    rng = np.random.default_rng(0)
    axes = similarity_figure(rng.normal(0.5, 0.1, 300), rng.normal(0, 0.1, 5000)).axes[0]
    for stairs in axes.patches:
        data = stairs.get_data()
        assert data.values @ np.diff(data.edges) == pytest.approx(1)
    only_one_video = similarity_figure(np.array([0.3]), np.array([])).axes[0]
    assert len(only_one_video.patches) == 1


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60))
def test_slices_keep_equal_values_together_and_have_about_one_size(values):
    slices, labels = quantile_slices(np.array(values))
    assert len(set(slices.tolist())) == len(labels) == slices.max() + 1 <= 4
    for value in set(values):
        (its,) = set(slices[np.array(values) == value].tolist())
        first, _, last = labels[its].partition("–")
        assert int(first) <= value <= int(last or first)
    if len(set(values)) == len(values) >= 4:
        sizes = np.bincount(slices)
        assert len(sizes) == 4
        assert sizes.max() - sizes.min() <= 1


def test_one_slice_is_said_to_be_one():
    slices, labels = quantile_slices(np.full(9, 3.04))
    assert (slices.tolist(), labels) == ([0] * 9, ["3.0"])
    recalls = Recalls(values=np.array([40.0]), low=np.array([30.0]), high=np.array([55.0]))
    slicing = Slicing(
        subject="duration of the video in seconds",
        labels=labels,
        recalls={"t2v": recalls},
        counts={"t2v": [9]},
    )
    axes = slices_figure([slicing], {"t2v": 40.0}).axes[0]
    assert "all alike, 3.0, so there is one slice" in axes.get_title(loc="left")
    (segment,) = axes.containers[0].lines[2][0].get_segments()
    assert segment[:, 0].tolist() == [30, 55]


class TestTrainingCurves:
    def panels(self, history):
        return {axes.get_title(): axes for axes in training_curves_figure(history).axes}

    def test_lines_are_what_was_logged_the_last_time_and_in_order(self):
        loss = [(1, 3.0), (2, 2.5), (4, 1.0), (2, 2.0), (3, 1.5)]
        panels = self.panels({"train/loss": loss, "train/other": [(1, 1.0)]})
        assert list(panels) == ["loss"]
        (line,) = panels["loss"].lines
        assert line.get_xdata().tolist() == [1, 2, 3, 4]
        assert line.get_ydata().tolist() == [3.0, 2.0, 1.5, 1.0]

    def test_recalls_have_their_bands_and_the_best_checkpoint_is_marked(self):
        history = {
            "val/t2v/R1": [(10, 20.0), (20, 30.0)],
            "val/t2v/R1_low": [(10, 15.0), (20, 25.0)],
            "val/t2v/R1_high": [(10, 26.0), (20, 37.0)],
            "val/v2t/R1": [(10, 22.0), (20, 33.0)],
            "test/t2v/R1": [(20, 28.0)],
            "best/step": [(20, 10.0)],
        }
        panels = self.panels(history)
        assert list(panels) == ["R@1 on val"]
        t2v, v2t, best = panels["R@1 on val"].lines
        assert t2v.get_ydata().tolist() == [20, 30]
        assert v2t.get_ydata().tolist() == [22, 33]
        assert set(best.get_xdata()) == {10}
        (band,) = panels["R@1 on val"].collections
        assert {15, 25, 26, 37} <= set(band.get_paths()[0].vertices[:, 1])

    def test_a_noisy_metric_has_its_moving_average(self):
        values = [(step, float(step % 2)) for step in range(600)]
        each, mean = self.panels({"train/loss": values})["loss"].lines
        assert len(each.get_xdata()) == 600
        assert np.abs(mean.get_ydata() - 0.5).max() < 0.05

    def test_nothing_logged_is_no_figure(self):
        assert training_curves_figure({}) is None
        assert training_curves_figure({"train/loss": []}) is None


def test_captions_are_cut_and_drawable():
    assert quoted("a dog") == "“a dog”"
    long = quoted("word " * 100, line_chars=40, max_lines=2)
    assert max(map(len, long.split("\n"))) <= 40
    assert long.count("\n") == 1
    assert long.endswith("…”")
    assert quoted("犬 runs") == f"“{NO_GLYPH} runs”"


@pytest.mark.parametrize("size", [(60, 80), (240, 320), (320, 180), (4, 300)])
def test_a_strip_has_each_frame_whole_and_small(size):
    frames = np.zeros((4, *size, 3), np.uint8)
    frames += np.array([10, 60, 110, 160], np.uint8)[:, None, None, None]
    strip = strip_image(frames, cell_width=80, cell_height=60)
    assert strip.size <= 4 * (4 * 80 * 60 * 3 + 4 * 60 * 3 * 4) * 1.2
    cells = np.split(strip, 4, axis=1)
    for cell, value in zip(cells, (10, 60, 110, 160), strict=True):
        assert set(np.unique(cell)) == {value, 255}
        rows, columns = np.nonzero((cell == value).all(axis=-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert abs(height - width * size[0] / size[1]) <= 2
        assert cell.shape[0] / cell.shape[1] == pytest.approx(60 / 80, rel=0.1)


def test_a_sliver_is_shrunk_no_further_than_to_a_line():
    frames = np.full((2, 2, 990, 3), 60, np.uint8)
    assert 60 in strip_image(frames, cell_width=80, cell_height=60)
