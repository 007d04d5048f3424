import pytest
import torch
from torch.nn import functional as F

from xpool.config import ModelConfig
from xpool.pooling import (
    CrossAttentionPooling,
    MeanPooling,
    SoftmaxPooling,
    TopKPooling,
    build_pooling,
)

POOLINGS = [
    CrossAttentionPooling(16, 2),
    MeanPooling(),
    TopKPooling(3),
    SoftmaxPooling(0.1),
]


@pytest.fixture
def embeds():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 16, generator=generator), torch.randn(4, 6, 16, generator=generator)


@pytest.mark.parametrize("pooling", POOLINGS, ids=lambda pooling: type(pooling).__name__)
def test_every_video_is_pooled_for_every_text(pooling, embeds):
    text, frames = embeds
    assert pooling.eval()(text, frames).shape == (4, 5, 16)


def test_an_untrained_pooling_attends_over_the_embeddings_themselves(embeds):
    text, frames = embeds
    pooling = CrossAttentionPooling(16, dropout=0.0)

    def norm(x):
        return F.layer_norm(x, (16,))

    weights = (norm(text) @ norm(frames).transpose(1, 2) / 4.0).softmax(dim=-1)
    attended = norm(weights @ norm(frames))
    torch.testing.assert_close(pooling(text, frames), norm(2 * attended))


def test_top_k_takes_all_frames_of_a_shorter_video(embeds):
    text, frames = embeds
    expected = F.normalize(frames[:, :2], dim=-1).sum(dim=1)
    pooled = TopKPooling(5)(text, frames[:, :2])
    torch.testing.assert_close(pooled, expected[:, None].expand(-1, 5, -1))


def test_a_sharp_softmax_is_the_most_similar_frame(embeds):
    text, frames = embeds
    torch.testing.assert_close(
        SoftmaxPooling(1e-5)(text, frames), TopKPooling(1)(text, frames), rtol=1e-4, atol=1e-5
    )


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"num_heads must divide .* 16, not 3"):
        CrossAttentionPooling(16, 3)


def test_the_config_names_the_pooling():
    for name, kind in zip(("xpool", "mean", "topk", "softmax"), POOLINGS, strict=True):
        assert type(build_pooling(ModelConfig(pooling=name), 16)) is type(kind)
