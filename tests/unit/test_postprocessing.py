import numpy as np
import pytest
import torch

from xpool.metrics import metrics_of_ranks, retrieval_ranks
from xpool.postprocessing import dual_softmax, qb_norm


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def with_hub(rng, num_texts, num_videos=40):
    """Cosines in which one video is near to every text, and a bank of texts that see it too."""
    scores = 0.2 * rng.random((num_texts, num_videos))
    scores[:, 7] += 0.15
    return scores


def test_dual_softmax_by_its_definition(rng):
    scores = rng.standard_normal((5, 4))
    np.testing.assert_allclose(
        dual_softmax(scores, 3.0), scores * torch.tensor(3 * scores).softmax(0).numpy()
    )


def test_dual_softmax_does_not_overflow_or_vanish_at_the_largest_scale(rng):
    scores = with_hub(rng, 3000).astype(np.float32)
    found = dual_softmax(scores, 100.0)
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_qb_norm_by_its_definition(rng):
    scores, bank = rng.random((30, 6)), rng.random((4, 6))
    hubs = set(bank.argmax(axis=1))
    assert len(hubs) < 6
    for row, found in zip(scores, qb_norm(scores, bank, beta=20.0), strict=True):
        expected = row
        if row.argmax() in hubs:
            expected = row - torch.tensor(20.0 * bank).logsumexp(0).numpy() / 20.0
        np.testing.assert_allclose(found, expected)


def test_both_push_back_a_video_that_is_near_to_every_text(rng):
    scores = with_hub(rng, 40) + 0.12 * np.eye(40)
    truth = np.arange(40)
    plain = metrics_of_ranks(retrieval_ranks(scores, truth))["t2v/R1"]
    for corrected in (dual_softmax(scores, 100.0), qb_norm(scores, with_hub(rng, 200))):
        assert metrics_of_ranks(retrieval_ranks(corrected, truth))["t2v/R1"] > plain + 20


def test_bad_input_is_named(rng):
    scores = rng.random((3, 4))
    with pytest.raises(ValueError, match=r"scale of the dual softmax .* not 0"):
        dual_softmax(scores, 0)
    with pytest.raises(ValueError, match=r"must hold a text, .* \(0, 4\)"):
        qb_norm(scores, scores[:0])
    with pytest.raises(ValueError, match=r"scores \(3, 4\) and bank_scores \(3, 2\) differ"):
        qb_norm(scores, scores[:, :2])
    with pytest.raises(ValueError, match="beta must be above 0, not -1"):
        qb_norm(scores, scores, beta=-1)
