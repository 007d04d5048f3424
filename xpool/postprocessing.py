"""Scores after-processed against hubs, videos that are near to every query.

Both methods see more than the one query that is ranked: dual softmax all queries of the test set,
QB-Norm a bank of training captions. Their metrics stand beside those of the plain scores.
"""

import numpy as np
from jaxtyping import Float

QB_NORM_BETA = 20.0
"""The inverse temperature of the QB-Norm paper."""


def dual_softmax(
    scores: Float[np.ndarray, "num_queries num_candidates"], scale: float
) -> Float[np.ndarray, "num_queries num_candidates"]:
    """Each score times the share that its query has among all queries of that candidate.

    The shares are a softmax over the queries of scale * scores; scale is the model's own, the
    exponential of its logit_scale. For v2t, pass the transpose. Source: Cheng et al. 2021 (CAMoE,
    arXiv 2109.04290), section 3.4. Raises ValueError if the scale is not above 0.
    """
    if not scale > 0:
        raise ValueError(f"the scale of the dual softmax must be above 0, not {scale}")
    scores = np.asarray(scores, np.float64)
    prior = scores * scale
    prior -= prior.max(axis=0)
    np.exp(prior, out=prior)
    prior /= prior.sum(axis=0)
    prior *= scores
    return prior


def qb_norm(
    scores: Float[np.ndarray, "num_texts num_videos"],
    bank_scores: Float[np.ndarray, "num_bank_texts num_videos"],
    beta: float = QB_NORM_BETA,
) -> Float[np.ndarray, "num_texts num_videos"]:
    """Text-to-video scores normalised by those of a bank of other texts.

    The dynamic inverted softmax: a video's score is divided, as exp(beta * score), by the sum of
    the bank's; only for texts whose best video is the best of some text of the bank, too. Given as
    its logarithm over beta, which orders a text's videos alike. Rows of different texts do not
    compare. Source: Bogolin et al. 2022 (QB-Norm, CVPR, arXiv 2112.12777), section 3.3. Raises
    ValueError if the bank is empty, of other videos, or beta not above 0.
    """
    scores, bank_scores = np.asarray(scores, np.float64), np.asarray(bank_scores)
    if bank_scores.ndim != 2 or not len(bank_scores):
        raise ValueError(f"bank_scores must hold a text, and have shape {bank_scores.shape}")
    if bank_scores.shape[1] != scores.shape[1]:
        raise ValueError(
            f"scores {scores.shape} and bank_scores {bank_scores.shape} differ in their videos"
        )
    if not beta > 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    hubs = np.zeros(scores.shape[1], dtype=bool)
    hubs[bank_scores.argmax(axis=1)] = True
    normalised = scores.copy()
    rows = hubs[scores.argmax(axis=1)]
    weights = beta * bank_scores.astype(np.float64)
    peak = weights.max(axis=0)
    normalised[rows] -= (peak + np.log(np.exp(weights - peak).sum(axis=0))) / beta
    return normalised
