"""X-Pool's scores with everything of the embeddings' width moved to the texts or the videos.

The derivation is in docs/how_it_works.md.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from xpool.pooling import CrossAttentionPooling
from xpool.scorer import MIN_NORM, Scorer, Terms, Workspace, frame_softmax


class AttentionScorer(Scorer):
    """X-Pool's attention, any number of heads."""

    def __init__(self, pooling: CrossAttentionPooling, dtype: torch.dtype) -> None:
        def of(tensor: Tensor) -> Tensor:
            return tensor.detach().to(dtype)

        self._pooling, self._dtype = pooling, dtype
        self.num_heads = heads = pooling.num_heads
        self._norm1 = of(pooling.layer_norm1.weight), of(pooling.layer_norm1.bias)
        self._query = of(pooling.q_proj.weight), of(pooling.q_proj.bias)
        self._key, value = of(pooling.k_proj.weight), of(pooling.v_proj.weight)
        value_bias, out_bias = of(pooling.v_proj.bias), of(pooling.out_proj.bias)
        mix = of(pooling.linear_proj.weight)
        mix = mix + torch.eye(len(mix), dtype=dtype, device=mix.device)
        gain2, shift2 = of(pooling.layer_norm2.weight), of(pooling.layer_norm2.bias)
        gain3, self._shift3 = of(pooling.layer_norm3.weight), of(pooling.layer_norm3.bias)

        # the attended values up to LN2's mean, and what LN3 sees of them up to LN2's deviation
        attended, attended_bias = _centred(of(pooling.out_proj.weight)), _centred(out_bias)
        mixed = _centred(mix @ (gain2[:, None] * attended))
        mixed_bias = _centred(mix @ (gain2 * attended_bias))
        constant = _centred(mix @ shift2 + of(pooling.linear_proj.bias))
        self._gain3, self._constant, self._scaled_constant = gain3, constant, gain3 * constant
        self._probe = gain3[:, None] * mixed
        self._probe_bias = self._probe @ value_bias + gain3 * mixed_bias

        self._attended = _by_head(attended, heads)
        self._mixed = _by_head(mixed, heads)
        split_bias = value_bias.view(heads, -1, 1)
        self._attended_bias = (self._attended @ split_bias).squeeze(-1) + attended_bias / heads
        self._mixed_bias = (self._mixed @ split_bias).squeeze(-1) + mixed_bias / heads
        # with one head the projections of the frames move to the texts
        if heads == 1:
            self._value = None
            self.video_term_names = ("keys", "forms")
            self._probe = self._probe @ value
            self._attended, self._mixed = self._attended @ value, self._mixed @ value
        else:
            self._value = value
            self.video_term_names = ("keys", "values", "forms")

    def text_terms(self, text_embeds: Float[Tensor, "num_texts embed_dim"]) -> Terms:
        texts = text_embeds.to(self._dtype)
        unit = F.normalize(texts, dim=-1)
        queries = F.linear(self._normed(texts), *self._query)
        queries = queries / (queries.shape[-1] // self.num_heads) ** 0.5
        if self.num_heads == 1:
            queries = queries @ self._key
        return Terms(
            {
                "queries": queries,
                "probes": unit @ self._probe,
                "probe_bias": unit @ self._probe_bias,
                "constant": unit @ self._scaled_constant,
                "shift": unit @ self._shift3,
            }
        )

    def video_terms(self, frame_embeds: Float[Tensor, "num_videos num_frames embed_dim"]) -> Terms:
        frames = self._normed(frame_embeds.to(self._dtype))
        if self._value is None:
            keyed = {"keys": frames[:, None]}
            values = frames[:, None]
        else:
            keys = F.linear(frames, self._key).unflatten(-1, (self.num_heads, -1))
            values = F.linear(frames, self._value).unflatten(-1, (self.num_heads, -1))
            values = values.transpose(1, 2).contiguous()
            keyed = {"keys": keys.transpose(1, 2).contiguous(), "values": values}
        embed_dim = frames.shape[-1]
        attended = _by_head_linear(values, self._attended, self._attended_bias)
        mixed = _by_head_linear(values, self._mixed, self._mixed_bias)
        scaled = mixed * self._gain3
        linear = [
            2 / embed_dim * (mixed @ self._constant),
            2 * (scaled @ self._scaled_constant),
            2 * (scaled @ self._shift3),
        ]
        forms = torch.cat(
            [
                attended @ attended.transpose(-1, -2) / embed_dim,
                mixed @ mixed.transpose(-1, -2) / embed_dim,
                scaled @ scaled.transpose(-1, -2),
                torch.stack(linear, dim=1),
            ],
            dim=1,
        )
        return Terms(keyed | {"forms": forms})

    def embed_dim_of(self, videos: Terms) -> int:
        return self.num_heads * videos.tensors["keys"].shape[-1]

    def values_per_text(self, videos: Terms) -> int:
        rows, size = videos.tensors["forms"].shape[1:]
        return len(videos) * (rows + 2 * size)

    def scores(
        self, texts: Terms, videos: Terms, work: Workspace
    ) -> Float[Tensor, "num_videos num_texts"]:
        keys, forms = videos.tensors["keys"], videos.tensors["forms"]
        values = videos.tensors.get("values", keys)
        num_videos, size, num_texts = len(keys), forms.shape[-1], len(texts)
        logits = self._products(keys, texts.tensors["queries"], work)
        weights = work.empty("weights", *keys.shape[:3], num_texts)
        frame_softmax(logits, weights, work)
        products = self._products(values, texts.tensors["probes"], work)
        products = products.mul_(weights).sum(dim=(1, 2))
        weights = weights.view(num_videos, size, num_texts)
        applied = work.empty("forms", num_videos, 3 * size + 3, num_texts)
        torch.bmm(forms, weights, out=applied)
        quadratic = applied[:, : 3 * size].view(num_videos, 3, size, num_texts)
        variance2, square3, norm3 = quadratic.mul_(weights[:, None]).sum(dim=2).unbind(1)
        linear3, linear_norm, linear_shift = applied[:, 3 * size :].unbind(1)

        eps2, eps3 = self._pooling.layer_norm2.eps, self._pooling.layer_norm3.eps
        scale2 = (variance2.clamp_(min=0) + eps2).rsqrt_()
        variance3 = (square3 * scale2 + linear3) * scale2 + self._constant.square().mean()
        scale3 = (variance3.clamp_(min=0) + eps3).rsqrt_()
        square = (norm3 * scale2 + linear_norm) * scale2 + self._scaled_constant.square().sum()
        cross = linear_shift * scale2 + 2 * self._scaled_constant @ self._shift3
        square = (square * scale3 + cross) * scale3 + self._shift3.square().sum()
        dots = (products + texts.tensors["probe_bias"]) * scale2 + texts.tensors["constant"]
        dots = dots * scale3 + texts.tensors["shift"]
        return dots / square.clamp_(min=0).sqrt_().clamp_(min=MIN_NORM)

    def frame_weights(self, texts: Terms, videos: Terms) -> Float[Tensor, "num_pairs num_frames"]:
        queries = texts.tensors["queries"].unflatten(-1, (self.num_heads, -1))
        keys = videos.tensors["keys"]
        logits = torch.einsum("phd,phfd->phf", queries, keys)
        return logits.softmax(dim=-1).mean(dim=1)

    def frame_vectors(self, videos: Terms) -> Float[Tensor, "num_videos num_frames embed_dim"]:
        values = videos.tensors.get("values", videos.tensors["keys"])
        return values.transpose(1, 2).flatten(2)

    def probes(self, texts: Terms) -> Float[Tensor, "num_texts embed_dim"]:
        return texts.tensors["probes"]

    def constants(self, texts: Terms) -> Float[Tensor, "num_texts 9"]:
        """What `scores` adds to its products and forms, for `xpool.half_scan`; in its order."""
        of_pooling = (
            self._pooling.layer_norm2.eps,
            self._pooling.layer_norm3.eps,
            self._constant.square().mean(),
            self._scaled_constant.square().sum(),
            2 * self._scaled_constant @ self._shift3,
            self._shift3.square().sum(),
        )
        of_text = [texts.tensors[name] for name in ("probe_bias", "constant", "shift")]
        fixed = torch.tensor([float(value) for value in of_pooling], dtype=self._dtype)
        return torch.cat([fixed.expand(len(texts), -1), torch.stack(of_text, dim=1).cpu()], dim=1)

    def _normed(self, embeds: Tensor) -> Tensor:
        norm = self._pooling.layer_norm1
        return F.layer_norm(embeds, norm.normalized_shape, *self._norm1, norm.eps)

    def _products(self, keys: Tensor, queries: Tensor, work: Workspace) -> Tensor:
        """[num_videos, num_heads, num_frames, num_texts]: every frame with every text, by head."""
        num_videos, heads, num_frames, width = keys.shape
        out = work.empty("products", heads, num_videos * num_frames, len(queries))
        by_head = keys.transpose(0, 1).reshape(heads, -1, width)
        for h in range(heads):
            own = queries[:, h * width : (h + 1) * width]
            torch.mm(by_head[h], own.T, out=out[h])
        return out.view(heads, num_videos, num_frames, -1).transpose(0, 1)


def _centred(x: Tensor) -> Tensor:
    """Without the mean over the embedding's width, the first axis, as a layer norm takes it."""
    return x - x.mean(dim=0)


def _by_head(matrix: Tensor, num_heads: int) -> Tensor:
    """[embed_dim, embed_dim] to [num_heads, embed_dim, head_dim]."""
    return matrix.unflatten(1, (num_heads, -1)).transpose(0, 1)


def _by_head_linear(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each head's own linear map, to [num_videos, num_heads * num_frames, embed_dim]."""
    num_videos, heads, num_frames, width = values.shape
    by_head = values.transpose(0, 1).reshape(heads, -1, width)
    out = torch.baddbmm(bias[:, None], by_head, weight.transpose(-1, -2))
    out = out.view(heads, num_videos, num_frames, -1)
    return out.transpose(0, 1).reshape(num_videos, heads * num_frames, -1)
