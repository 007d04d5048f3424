"""Symmetric cross-entropy over a batch's similarities (X-Pool, equations 9 to 11)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def contrastive_loss(
    similarity: Float[Tensor, "num_pairs num_pairs"], logit_scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Mean of the text-to-video and video-to-text cross-entropies; pair i is (text i, video i).

    logit_scale is the logarithm of the scale that multiplies the similarities.
    """
    return partial_contrastive_loss(similarity, similarity, logit_scale, first_pair=0)


def partial_contrastive_loss(
    own_texts: Float[Tensor, "num_own num_pairs"],
    own_videos: Float[Tensor, "num_pairs num_own"],
    logit_scale: Float[Tensor, ""],
    *,
    first_pair: int,
) -> Float[Tensor, ""]:
    """One worker's addend to `contrastive_loss` of a global batch.

    The worker owns pairs first_pair to first_pair + num_own - 1. `own_texts` holds the similarity
    of its texts with all videos, `own_videos` that of all texts with its videos. The addends of
    all workers sum to the loss of the whole batch.
    """
    num_own, num_pairs = own_texts.shape
    scale = logit_scale.exp()
    target = torch.arange(first_pair, first_pair + num_own, device=own_texts.device)
    t2v = F.cross_entropy(own_texts * scale, target, reduction="sum")
    v2t = F.cross_entropy(own_videos.T * scale, target, reduction="sum")
    return (t2v + v2t) / (2 * num_pairs)
