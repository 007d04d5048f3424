import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpool.metrics import (
    chance_metrics,
    retrieval_metrics,
    retrieval_ranks,
)


def test_hand_worked_ranks():
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.3, 0.4, 0.2]])
    ranks = retrieval_ranks(scores, np.arange(3))
    assert ranks.t2v.tolist() == [1, 2, 3]
    assert ranks.v2t.tolist() == [1, 1, 1 + 1]
    metrics = retrieval_metrics(scores, np.arange(3))
    assert metrics["t2v/R1"] == pytest.approx(100 / 3)
    assert metrics["t2v/MdR"] == 2
    assert metrics["t2v/MnR"] == 2
    assert metrics["v2t/R5"] == 100


def test_a_caption_set_scores_as_its_best_caption():
    # texts 0 and 1 belong to video 0, text 2 to video 1; only text 1 finds video 0
    scores = np.array([[0.1, 0.9], [0.8, 0.0], [0.5, 0.6]])
    ranks = retrieval_ranks(scores, np.array([0, 0, 1]))
    assert ranks.t2v.tolist() == [2, 1, 1]
    assert ranks.v2t.tolist() == [1, 2]


def test_ties_count_against_the_model():
    metrics = retrieval_metrics(np.zeros((10, 10)), np.arange(10))
    assert metrics["t2v/R1"] == metrics["v2t/R1"] == 0
    assert metrics["t2v/MnR"] == 10


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_name_text_and_video(value):
    scores = np.eye(4)
    scores[2, 3] = value
    with pytest.raises(ValueError, match=r"1 of 16 scores .* of text 2 with video 3$"):
        retrieval_metrics(scores, np.arange(4))
    scores[:, 3] = scores[1] = value
    with pytest.raises(
        ValueError, match=r"all scores of text 1 \(row 1\); .* video 3 \(column 3\)"
    ):
        retrieval_metrics(scores, np.arange(4))
    with pytest.raises(ValueError, match="of text 'a cat' with video 'v3'; all scores of text 'a"):
        retrieval_metrics(
            scores,
            np.arange(4),
            text_names=["a cat", "a dog", "a fox", "an owl"],
            video_names=["v0", "v1", "v2", "v3"],
        )
    with pytest.raises(ValueError, match="not finite"):
        retrieval_ranks(np.eye(4), np.arange(4), v2t_scores=scores)


def test_bad_shapes_and_captions_are_errors():
    with pytest.raises(ValueError, match=r"scores must be .* not \[0, 3\]"):
        retrieval_metrics(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"scores must be .* not \[3, 0\]"):
        retrieval_metrics(np.zeros((3, 0)), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"scores must be .* not \[3\]"):
        retrieval_metrics(np.zeros(3), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"video_of_text must be \[3\], .* not \[2\]"):
        retrieval_metrics(np.eye(3), np.arange(2))
    with pytest.raises(ValueError, match=r"1 texts are of unknown videos, .* text 2 of video 3, "):
        retrieval_metrics(np.eye(3), np.array([0, 1, 3]))
    with pytest.raises(ValueError, match="1 videos have no text, the first of them video 1"):
        retrieval_metrics(np.eye(3), np.array([0, 0, 2]))
    with pytest.raises(ValueError, match="video 'b'"):
        retrieval_metrics(np.eye(3), np.array([0, 0, 2]), video_names=["a", "b", "c"])
    with pytest.raises(ValueError, match="v2t_scores have shape"):
        retrieval_ranks(np.eye(3), np.arange(3), v2t_scores=np.eye(4))


def test_the_directions_can_have_scores_of_their_own():
    ranks = retrieval_ranks(np.eye(3), np.arange(3), v2t_scores=1 - np.eye(3))
    assert ranks.t2v.tolist() == [1, 1, 1]
    assert ranks.v2t.tolist() == [3, 3, 3]


@given(
    num_videos=st.integers(1, 12),
    extra=st.integers(0, 20),
    seed=st.integers(0, 2**31),
    levels=st.integers(1, 50),
)
def test_ranks_equal_a_naive_count(num_videos, extra, seed, levels):
    rng = np.random.default_rng(seed)
    video_of_text = rng.permutation(
        np.concatenate([np.arange(num_videos), rng.integers(num_videos, size=extra)])
    )
    scores = rng.integers(levels, size=(len(video_of_text), num_videos)) / levels
    ranks = retrieval_ranks(scores, video_of_text)
    for text, video in enumerate(video_of_text):
        others = [scores[text, v] for v in range(num_videos) if v != video]
        assert ranks.t2v[text] == 1 + sum(score >= scores[text, video] for score in others)
    for video in range(num_videos):
        best = [scores[video_of_text == v, video].max() for v in range(num_videos)]
        others = best[:video] + best[video + 1 :]
        assert ranks.v2t[video] == 1 + sum(score >= best[video] for score in others)


def test_chance_is_what_random_scores_reach():
    rng = np.random.default_rng(0)
    video_of_text = np.repeat(np.arange(40), 3)
    chance = chance_metrics(video_of_text)
    drawn = [retrieval_metrics(rng.random((120, 40)), video_of_text) for _ in range(300)]
    for key, value in chance.items():
        if "MdR" not in key:  # the mean of medians is not the median
            assert np.mean([metrics[key] for metrics in drawn]) == pytest.approx(value, rel=0.1)
