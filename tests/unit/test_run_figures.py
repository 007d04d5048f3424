"""What the figures of a run show, from frames in a real store: the numbers in the artists."""

import io
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
import torch

from xpool.metrics import RECALL_AT, metrics_of_ranks, retrieval_ranks
from xpool.pooling import CrossAttentionPooling, MeanPooling
from xpool.scoring import attention_weights, score_matrix
from xpool_platform.data.frame_store import frames_uri, write_frames
from xpool_platform.data.video import EncodedVideo
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.measure import measure_split
from xpool_platform.evaluate.run_figures import run_figures
from xpool_platform.experiments import experiment
from xpool_platform.tracking.figures.notes import NOTES

NUM_FRAMES, WIDTH = 6, 16
COLOURS = np.random.default_rng(1).permutation(
    np.stack(np.meshgrid([20, 128, 235], [20, 128, 235], [20, 128, 235]), axis=-1).reshape(-1, 3)
)
HISTORY = {"train/loss": [(step, 1 / step) for step in range(1, 5)]}


class Split:
    """A split whose videos are each of one colour, stored and measured."""

    def __init__(self, folder, num_videos, captions_of, pooling=None, frame_embeds=None):
        rng = torch.Generator().manual_seed(0)
        rows = []
        for i in range(num_videos):
            uri = frames_uri(str(folder), f"{i:04d}")
            picture = np.full((24, 32, 3), COLOURS[i], np.uint8)
            jpegs = [simplejpeg.encode_jpeg(picture, quality=95)] * (8 + i)
            times_s = np.arange(len(jpegs)) / 3
            write_frames(uri, EncodedVideo(jpegs=jpegs, times_s=times_s, duration_s=3.0 + i))
            row = {"video_id": f"v{i}", "captions": captions_of(i), "frames_uri": uri}
            rows.append(row | {"num_frames": len(jpegs), "duration_s": 3.0 + i})
        self.videos = pa.Table.from_pylist(rows)
        self.texts = [text for row in rows for text in row["captions"]]
        self.video_of_text = np.repeat(np.arange(num_videos), [len(r["captions"]) for r in rows])
        if frame_embeds is None:
            frame_embeds = torch.randn(num_videos, NUM_FRAMES, WIDTH, generator=rng)
        noise = torch.randn(len(self.texts), WIDTH, generator=rng)
        own = frame_embeds[torch.from_numpy(self.video_of_text)]
        at = torch.arange(len(self.texts))
        self.embeds = SplitEmbeds(
            text_embeds=own[at, at % NUM_FRAMES] + 1.5 * noise,
            frame_embeds=frame_embeds,
            video_of_text=self.video_of_text,
        )
        self.pooling = pooling or CrossAttentionPooling(WIDTH).eval()
        config = experiment("shapes")
        self.config = replace(
            config,
            data=replace(config.data, num_frames=NUM_FRAMES),
            eval=replace(config.eval, num_figures=3, num_resamples=20),
        )
        model = SimpleNamespace(pooling=self.pooling, logit_scale=torch.tensor(2.0))
        self.measured = measure_split(
            model, self.embeds, self.videos, self.config.eval, num_missing=0, selected_on="val"
        )
        self.ranks = self.measured.ranks["plain"]

    def figures(self, history=HISTORY, **changes):
        config = replace(self.config, eval=replace(self.config.eval, **changes))
        return run_figures(
            *(self.pooling, self.videos, self.embeds, self.measured),
            config=config,
            history=history,
        )

    def weights(self, pairs):
        return attention_weights(
            self.pooling,
            self.embeds.text_embeds,
            self.embeds.frame_embeds,
            torch.tensor(pairs),
        ).numpy()


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    return Split(
        tmp_path_factory.mktemp("frames"),
        14,
        lambda i: [f"video {i}" + " and more" * j for j in range(1 + i % 4)],
    )


@pytest.fixture(scope="module")
def figures(split):
    return split.figures()


def bar_heights(figure):
    """Of each axes with bars."""
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes]
    return np.array([each for each in heights if each])


def shown_video(axes):
    """The video whose colour the strip has."""
    picture = axes.images[0].get_array()
    middle = picture[picture.shape[0] // 2, picture.shape[1] // 10].astype(int)
    return int(np.abs(COLOURS - middle).sum(axis=1).argmin())


def words(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_every_figure_is_named_and_told_how_to_be_read(figures):
    assert set(figures) == set(NOTES)


def test_attention_bars_are_the_weights_of_captions_over_their_own_video(split, figures):
    last = len(split.texts) - 1
    chosen = [0, round(last / 2), last]
    pairs = [(text, int(split.video_of_text[text])) for text in chosen]
    figure = figures["attention"]
    np.testing.assert_allclose(bar_heights(figure), split.weights(pairs), rtol=1e-5)
    strips = [axes for axes in figure.axes if axes.images]
    assert [shown_video(axes) for axes in strips] == [video for _, video in pairs]
    assert all(f"“{split.texts[text]}”" in words(figure) for text in chosen)


def test_the_video_whose_captions_differ_most_is_shown(tmp_path):
    frame_embeds = torch.randn(1, 1, WIDTH).expand(5, NUM_FRAMES, WIDTH).clone()
    frame_embeds[3] = 4 * torch.eye(WIDTH)[:NUM_FRAMES]  # the only frames to choose between
    split = Split(tmp_path, 5, lambda i: [f"{i} {j}" for j in range(3)], frame_embeds=frame_embeds)
    figure = split.figures()["moved_attention"]
    strips = [axes for axes in figure.axes if axes.images]
    assert [shown_video(axes) for axes in strips] == [3]
    texts = np.flatnonzero(split.video_of_text == 3)
    expected = split.weights([(text, 3) for text in texts])
    np.testing.assert_allclose(bar_heights(figure), expected, rtol=1e-5)
    assert "its own captions, over the frames of v3" in words(figure)


def test_of_videos_with_one_caption_each_captions_of_others_are_taken(tmp_path):
    split = Split(tmp_path, 5, lambda i: [f"caption {i}"])
    figure = split.figures()["moved_attention"]
    (strip,) = (axes for axes in figure.axes if axes.images)
    video = shown_video(strip)
    heights = bar_heights(figure)
    assert len(heights) == 5
    np.testing.assert_allclose(heights[0], split.weights([(video, video)])[0], rtol=1e-5)
    assert "its own caption, then those of other videos" in words(figure)
    distances = {}
    for each in range(5):
        weights = split.weights([(text, each) for text in range(5)])
        distances[each] = np.abs(weights[:, None] - weights[None]).sum()
    assert video == max(distances, key=distances.get)


def test_the_outlined_strip_is_the_truth_and_the_places_are_those_of_the_scores(split, figures):
    figure = figures["top_videos"]
    strips = [axes for axes in figure.axes if axes.images]
    heads = [t.get_text() for t in figure.texts if " rank " in t.get_text()]
    captions = [t.get_text() for t in figure.texts if t.get_text().startswith("“")]
    ranks = [int(head.split("rank ")[1].split(" of")[0]) for head in heads]
    assert [head.split(":")[0] for head in heads] == ["Best"] * 2 + ["Median"] * 2 + ["Worst"] * 2
    assert min(ranks) == ranks[0] == split.ranks.t2v.min()
    assert max(ranks) == ranks[4] == split.ranks.t2v.max() > 5
    at = 0
    for rank, caption in zip(ranks, captions, strict=True):
        text = split.texts.index(caption[1:-1])
        assert split.ranks.t2v[text] == rank
        order = np.argsort(-split.measured.scores[text]).tolist()
        own = int(split.video_of_text[text])
        expected = order[:5] + ([] if own in order[:5] else [own])
        its = strips[at : at + len(expected)]
        at += len(expected)
        assert [shown_video(axes) for axes in its] == expected
        assert [axes.get_gid() for axes in its] == [f"place {order.index(v) + 1}" for v in expected]
        outlined = [any(p.get_gid() == "truth" for p in axes.patches) for axes in its]
        assert outlined == [video == own for video in expected]
    assert at == len(strips)
    marked = [t.get_text() for t in figure.texts if t.get_text().endswith("✓ truth")]
    assert len(marked) == 6


def test_a_truth_that_ties_comes_after_its_equals(tmp_path):
    split = Split(tmp_path, 8, lambda i: [f"caption {i}"])
    split.measured = replace(
        split.measured,
        scores=np.zeros((8, 8), np.float32),
        ranks={"plain": retrieval_ranks(np.zeros((8, 8)), np.arange(8))},
    )
    figure = split.figures()["top_videos"]
    strips = [axes for axes in figure.axes if axes.images]
    assert [axes.get_gid() for axes in strips[:6]] == [f"place {i}" for i in (1, 2, 3, 4, 5, 8)]
    assert strips[5].patches


def test_recall_curves_meet_the_metrics_of_the_report_and_of_mean_pooling(split, figures):
    by_mean = score_matrix(MeanPooling(), split.embeds.text_embeds, split.embeds.frame_embeds)
    of_mean = metrics_of_ranks(retrieval_ranks(by_mean.numpy(), split.video_of_text))
    for direction, axes in zip(("t2v", "v2t"), figures["recall"].axes, strict=True):
        own, mean, chance = axes.lines
        for k in (k for k in RECALL_AT if k <= 14):
            key = f"{direction}/R{k}"
            assert own.get_ydata()[k - 1] == pytest.approx(split.measured.report.metrics[key])
            assert mean.get_ydata()[k - 1] == pytest.approx(of_mean[key])
            assert chance.get_ydata()[k - 1] == pytest.approx(100 * k / 14)
        assert len(own.get_xdata()) == 14
        low, high = split.measured.report.intervals[f"{direction}/R1"]
        band = axes.collections[0].get_paths()[0].vertices
        ends = band[band[:, 0] == 1][:, 1]
        assert (ends.min(), ends.max()) == pytest.approx((low, high))


def test_mean_pooling_has_no_baseline_beside_it(tmp_path):
    split = Split(tmp_path, 6, lambda i: [f"caption {i}"], pooling=MeanPooling())
    assert all(len(axes.lines) == 2 for axes in split.figures()["recall"].axes)


def test_slices_add_up_to_all_queries(split, figures):
    figure = figures["slices"]
    sizes = [
        [label.get_text().split("\n")[1] for label in axes.get_yticklabels()]
        for axes in figure.axes
    ]
    captions = [sum(int(size.split()[0]) for size in panel) for panel in sizes]
    videos = [sum(int(size.split(", ")[1].split()[0]) for size in panel) for panel in sizes[1:]]
    assert captions == [len(split.texts)] * 3
    assert videos == [14] * 2
    by_length = figure.axes[0].containers[0].lines[0].get_xdata()
    lengths = np.array([len(text.split()) for text in split.texts])
    labels = [label.get_text().split("\n")[0] for label in figure.axes[0].get_yticklabels()]
    for label, recall in zip(labels, by_length, strict=True):
        first, _, last = label.partition("–")
        its = (lengths >= int(first)) & (lengths <= int(last or first))
        assert recall == pytest.approx(100 * np.mean(split.ranks.t2v[its] == 1))


def test_without_num_figures_or_history_there_is_less(split):
    assert split.figures(num_figures=0) == {}
    assert set(split.figures(history={})) == set(NOTES) - {"training_curves"}


@pytest.mark.parametrize("num_videos", [1, 2, 5])
def test_tiny_splits_and_odd_captions_are_drawn_without_a_warning(tmp_path, num_videos):
    odd = ["$5 and $x_{", "犬が走る", "", "w" * 900, "a b " * 300]
    split = Split(tmp_path, num_videos, lambda i: [odd[i]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in split.figures().values():
            file = io.BytesIO()
            figure.savefig(file, dpi=120, format="png")
            height, width = png_size(file.getvalue())
            assert width == 1008
            assert height < 3000


def png_size(png: bytes) -> tuple[int, int]:
    """Height and width, from the header of a PNG file."""
    width, height = (int.from_bytes(png[i : i + 4]) for i in (16, 20))
    return height, width
