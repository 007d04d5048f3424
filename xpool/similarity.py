"""The training similarity of a batch."""

from jaxtyping import Float
from torch import Tensor, einsum
from torch.nn import functional as F


def similarity_matrix(
    text_embeds: Float[Tensor, "num_texts embed_dim"],
    pooled_video_embeds: Float[Tensor, "num_videos num_texts embed_dim"],
) -> Float[Tensor, "num_texts num_videos"]:
    """Cosine similarity of each text with each video as pooled for that text."""
    texts = F.normalize(text_embeds, dim=-1)
    videos = F.normalize(pooled_video_embeds, dim=-1)
    return einsum("td,vtd->tv", texts, videos)
