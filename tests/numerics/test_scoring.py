"""The factorised scores against pooling every pair, written out one pair at a time."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xpool.pooling import CrossAttentionPooling, MeanPooling, SoftmaxPooling, TopKPooling
from xpool.scoring import attention_weights, make_scorer, score_matrix, video_terms

WIDTH = 24


def attention(num_heads: int, seed: int, dropout: float = 0.3) -> CrossAttentionPooling:
    """A pooling far from the identity, with other layer norm epsilons."""
    pooling = CrossAttentionPooling(WIDTH, num_heads, dropout)
    generator = torch.Generator().manual_seed(seed)
    for parameter in pooling.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    pooling.layer_norm2.eps, pooling.layer_norm3.eps = 1e-4, 1e-3
    return pooling


def naive_attention(pooling, text, frames):
    """(cosine, weights [num_frames]) of one pair, in float64, by the equations of the paper."""

    def norm(layer, x):
        deviation = x - x.mean()
        return deviation / (
            deviation.square().mean() + layer.eps
        ).sqrt() * layer.weight.double() + (layer.bias.double())

    def linear(layer, x):
        return layer.weight.double() @ x + layer.bias.double()

    query = linear(pooling.q_proj, norm(pooling.layer_norm1, text))
    keys = [linear(pooling.k_proj, norm(pooling.layer_norm1, frame)) for frame in frames]
    values = [linear(pooling.v_proj, norm(pooling.layer_norm1, frame)) for frame in frames]
    width = len(query) // pooling.num_heads
    heads, weights = [], []
    for h in range(pooling.num_heads):
        own = slice(h * width, (h + 1) * width)
        logits = torch.stack([query[own] @ key[own] / width**0.5 for key in keys])
        weights.append(logits.softmax(0))
        heads.append(sum(w * value[own] for w, value in zip(weights[-1], values, strict=True)))
    attended = norm(pooling.layer_norm2, linear(pooling.out_proj, torch.cat(heads)))
    pooled = norm(pooling.layer_norm3, attended + linear(pooling.linear_proj, attended))
    return text @ pooled / (text.norm() * pooled.norm()), torch.stack(weights).mean(0)


def naive_baseline(pooling, text, frames):
    text, frames = text / text.norm(), [frame / frame.norm() for frame in frames]
    similarity = torch.stack([text @ frame for frame in frames])
    match pooling:
        case MeanPooling():
            weights = torch.full_like(similarity, 1 / len(frames))
        case TopKPooling(k=k):
            order = similarity.argsort(descending=True)[:k]
            weights = torch.zeros_like(similarity)
            weights[order] = 1 / len(order)
        case SoftmaxPooling(temperature=temperature):
            weights = (similarity / temperature).softmax(0)
    pooled = sum(w * frame for w, frame in zip(weights, frames, strict=True))
    return text @ pooled / pooled.norm(), weights


def naive(pooling, text_embeds, frame_embeds):
    """scores [num_texts, num_videos] and weights [num_texts, num_videos, num_frames]."""
    one = naive_attention if isinstance(pooling, CrossAttentionPooling) else naive_baseline
    pairs = [[one(pooling, t.double(), f.double()) for f in frame_embeds] for t in text_embeds]
    scores = torch.stack([torch.stack([score for score, _ in row]) for row in pairs])
    return scores, torch.stack([torch.stack([weights for _, weights in row]) for row in pairs])


POOLINGS = st.one_of(
    st.builds(attention, st.sampled_from([1, 2, 4, WIDTH]), st.integers(0, 2**31)),
    st.builds(MeanPooling),
    st.builds(TopKPooling, st.integers(1, 8)),
    st.builds(SoftmaxPooling, st.sampled_from([0.01, 0.1, 3.0])),
)


@settings(deadline=None, max_examples=120)
@given(
    pooling=POOLINGS,
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 7)),
    tiles=st.fixed_dictionaries(
        {
            "texts_per_tile": st.integers(1, 7),
            "videos_per_tile": st.one_of(st.none(), st.integers(1, 7)),
        }
    ),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    alike=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 2**31),
)
@torch.no_grad()
def test_scores_equal_those_of_every_pair_by_itself(pooling, sizes, tiles, scale, alike, seed):  # noqa: PLR0917
    num_texts, num_videos, num_frames = sizes
    generator = torch.Generator().manual_seed(seed)
    texts = scale * torch.randn(num_texts, WIDTH, generator=generator)
    frames = torch.randn(num_videos, num_frames, WIDTH, generator=generator)
    frames = scale * (frames + alike * torch.randn(num_videos, 1, WIDTH, generator=generator))
    scores, weights = naive(pooling, texts, frames)
    found = score_matrix(pooling, texts, frames, **tiles)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), scores, rtol=0, atol=1e-5)
    exact = score_matrix(pooling.double(), texts.double(), frames.double(), **tiles)
    torch.testing.assert_close(exact, scores, rtol=0, atol=1e-11)
    pooling.float()

    terms = video_terms(pooling, frames)
    torch.testing.assert_close(score_matrix(pooling, texts, terms, **tiles), found)
    pairs = torch.cartesian_prod(torch.arange(num_texts), torch.arange(num_videos)).flip(0)
    for videos in (frames, terms):
        chosen = attention_weights(pooling, texts, videos, pairs).double()
        torch.testing.assert_close(chosen, weights.flatten(0, 1).flip(0), rtol=0, atol=2e-4)
        torch.testing.assert_close(
            chosen.sum(1), torch.ones(len(pairs)).double(), rtol=0, atol=1e-6
        )


@pytest.fixture
def embeds():
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(7, WIDTH, generator=generator)
    return texts, torch.randn(5, 6, WIDTH, generator=generator)


EACH = pytest.mark.parametrize(
    "pooling",
    [attention(1, 0), attention(4, 0), MeanPooling(), TopKPooling(3), SoftmaxPooling(0.1)],
    ids=["1 head", "4 heads", "mean", "topk", "softmax"],
)


@EACH
def test_dropout_is_off_and_the_mode_is_left_alone(pooling, embeds):
    whole = score_matrix(pooling.eval(), *embeds)
    pooling.train()
    torch.testing.assert_close(score_matrix(pooling, *embeds), whole, rtol=0, atol=0)
    assert pooling.training


@EACH
def test_autocast_and_tf32_do_not_coarsen_the_scores(pooling, embeds):
    plain = score_matrix(pooling, *embeds)
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        with torch.autocast("cpu", torch.bfloat16):
            scores = score_matrix(pooling, *embeds)
            assert torch.is_autocast_enabled("cpu")
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"
    torch.testing.assert_close(scores, plain, rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@EACH
def test_a_gpu_gives_the_scores_of_the_cpu(pooling, embeds):
    scores = score_matrix(pooling, *embeds)
    texts, frames = (x.cuda() for x in embeds)
    moved = copy.deepcopy(pooling).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        found = score_matrix(moved, texts, frames)
    torch.testing.assert_close(found.cpu(), scores, rtol=0, atol=1e-5)


@EACH
def test_half_precision_embeddings_are_scored_in_float32(pooling, embeds):
    texts, frames = (x.bfloat16() for x in embeds)
    scores = score_matrix(pooling, texts, frames)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, score_matrix(pooling, texts.float(), frames.float()))


@EACH
def test_kept_terms_in_half_precision_score_nearly_alike(pooling, embeds):
    texts, frames = embeds
    kept = video_terms(pooling, frames).to(torch.float16)
    assert len(kept) == 5
    assert all(len(tensor) == 5 for tensor in kept.tensors.values())
    scores = score_matrix(pooling, texts, kept)
    torch.testing.assert_close(scores, score_matrix(pooling, texts, frames), rtol=0, atol=5e-3)


def test_bad_input_is_named(embeds):
    texts, frames = embeds
    mean = MeanPooling()
    for wrong, words in (
        ((texts[:0], frames), r"text_embeds must be \[num_texts, embed_dim\], .* not \[0, 24\]"),
        ((texts, frames[:0]), r"frame_embeds must be .* not \[0, 6, 24\]"),
        ((texts, frames[:, :0]), r"frame_embeds must be .* not \[5, 0, 24\]"),
        ((texts[0], frames), r"text_embeds must be .* not \[24\]"),
        ((texts[:, :8], frames), r"\[7, 8\] and frame_embeds \[5, 6, 24\] differ in their width"),
    ):
        with pytest.raises(ValueError, match=words):
            score_matrix(mean, *wrong)
    texts, frames = texts.clone(), frames.clone()
    frames[3, 2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"frame_embeds of 1 videos are not .* of video 3"):
        score_matrix(mean, texts, frames)
    with pytest.raises(ValueError, match=r"frame_embeds of 1 videos are not .* of video 3"):
        video_terms(mean, frames)
    texts[[2, 4], 0] = torch.inf
    with pytest.raises(ValueError, match=r"text_embeds of 2 texts are not .* of text 2"):
        score_matrix(mean, texts, frames)


def test_bad_terms_and_tiles_are_named(embeds):
    texts, frames = embeds
    one, four = attention(1, 0), attention(4, 0)
    for pooling, terms, words in (
        (
            MeanPooling(),
            video_terms(one, frames),
            "terms are keys, forms, and this pooling has units, shares",
        ),
        (four, video_terms(one, frames), "has keys, values, forms"),
        (attention(2, 0), video_terms(four, frames), "are of width 12, and text_embeds"),
        (
            one,
            video_terms(one, frames)[:0],
            r"video terms 'keys' must be \[num_videos, .* not \[0,",
        ),
        (one, video_terms(one, 1e4 * frames).to(torch.float16), None),
    ):
        if words is None:
            assert torch.isfinite(score_matrix(pooling, texts, terms)).all()
        else:
            with pytest.raises(ValueError, match=words):
                score_matrix(pooling, texts, terms)
    broken = video_terms(one, frames)
    broken.tensors["forms"][3, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"video terms 'forms' of 1 videos are not .* of video 3"):
        score_matrix(one, texts, broken)
    for tiles in ({"texts_per_tile": 0}, {"videos_per_tile": -1}):
        with pytest.raises(ValueError, match="tiles must hold 1 or more"):
            score_matrix(one, texts, frames, **tiles)


def test_pairs_that_are_not_there_are_named(embeds):
    for pairs, words in (
        ([[0, 0], [7, 4]], r"pair \[7, 4\] is not among 7 texts and 5 videos"),
        ([[0, -1]], r"pair \[0, -1\] is not"),
        ([0, 1], r"pairs must be \[num_pairs, 2\], not \[2\]"),
    ):
        with pytest.raises(ValueError, match=words):
            attention_weights(MeanPooling(), *embeds, torch.tensor(pairs))


def test_a_pooling_without_a_scorer_is_said(embeds):
    class Other(nn.Module):
        pass

    with pytest.raises(TypeError, match="Other has no scorer"):
        score_matrix(Other(), *embeds)


@pytest.mark.parametrize("pooling", [attention(2, 0), MeanPooling(), TopKPooling(2)])
def test_a_scorer_takes_the_place_of_its_pooling(pooling):
    torch.manual_seed(0)
    texts, frames = torch.randn(5, WIDTH), torch.randn(9, 4, WIDTH)
    scorer = make_scorer(pooling)
    expected = score_matrix(pooling, texts, frames)
    torch.testing.assert_close(score_matrix(scorer, texts, frames), expected, rtol=0, atol=0)
    kept = video_terms(scorer, frames).to(torch.float16)
    in_tiles = score_matrix(scorer, texts, kept, videos_per_tile=2, check_videos=False)
    torch.testing.assert_close(in_tiles, score_matrix(pooling, texts, kept))
    torch.testing.assert_close(in_tiles, expected, rtol=0, atol=2e-3)


def near_the_identity(num_heads):
    """As a training leaves it, which begins at the identity."""
    pooling = attention(num_heads, 4)
    plain = CrossAttentionPooling(WIDTH, num_heads)
    for parameter, start in zip(pooling.parameters(), plain.parameters(), strict=True):
        parameter.data = start.data + (parameter.data - start.data) / 10
    return pooling


@pytest.mark.parametrize(
    "pooling",
    [
        near_the_identity(1),
        near_the_identity(3),
        MeanPooling(),
        TopKPooling(2),
        SoftmaxPooling(0.1),
    ],
)
def test_the_best_videos_have_a_vector_with_a_large_product_with_the_probe(pooling):
    torch.manual_seed(0)
    scenes = torch.randn(3000, 2, WIDTH).repeat_interleave(3, dim=1)
    frames = scenes + 0.3 * torch.randn(3000, 6, WIDTH)
    scorer, texts = make_scorer(pooling), frames[:20, 0] + 0.5 * torch.randn(20, WIDTH)
    best = score_matrix(scorer, texts, frames).topk(5, dim=1).indices
    vectors = scorer.frame_vectors(video_terms(scorer, frames))
    products = torch.einsum("td,vfd->tvf", scorer.probes(scorer.text_terms(texts)), vectors)
    first = products.amax(dim=2).topk(300, dim=1).indices
    found = [torch.isin(b, f).double().mean() for b, f in zip(best, first, strict=True)]
    assert torch.stack(found).mean() >= 0.95
