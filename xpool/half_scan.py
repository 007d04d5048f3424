"""One text against very many videos whose terms lie in float16, nearly as fast as memory is read.

`xpool.scoring.score_matrix` widens terms to float32 in memory, which pays off for many texts. Here
each number is read once and widened in a register; products and sums are float32.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from llvmlite import ir
from numba import config, njit, prange, set_num_threads, types
from numba.extending import intrinsic
from torch import Tensor

from xpool.attention_scorer import AttentionScorer
from xpool.scorer import MIN_NORM, Terms

FEW_TEXTS = 12
"""Up to so many texts, one after the other here are faster than `score_matrix` with all of them."""


@dataclass(frozen=True, slots=True)
class ScannedText:
    """What a scan needs of a text, made once for all the videos."""

    width: int
    queries: Float[np.ndarray, "num_heads head_dim"]
    probes: Float[np.ndarray, "num_heads head_dim"]
    constants: Float[np.ndarray, " 9"]


@torch.no_grad()
def scanned_texts(
    scorer: AttentionScorer, text_embeds: Float[Tensor, "num_texts embed_dim"]
) -> list[ScannedText]:
    """Texts made ready for `scan`. Raises ValueError for one that is not finite."""
    if not torch.isfinite(text_embeds).all():
        raise ValueError("text_embeds are not finite")
    texts = scorer.text_terms(text_embeds)
    by_head = (len(text_embeds), scorer.num_heads, -1)
    return [
        ScannedText(text_embeds.shape[1], queries, probes, constants)
        for queries, probes, constants in zip(
            texts.tensors["queries"].float().numpy().reshape(by_head),
            texts.tensors["probes"].float().numpy().reshape(by_head),
            scorer.constants(texts).float().numpy(),
            strict=True,
        )
    ]


def scan(
    text: ScannedText,
    videos: Terms,
    rows: Int[np.ndarray, " num_rows"] | None = None,
    *,
    num_threads: int = 1,
) -> Float[np.ndarray, " num_rows"]:
    """Cosine similarity of a text with each video of these rows (all, in order, if None).

    `videos` holds float16 on the CPU; that its numbers are finite is not checked. Equal to
    `score_matrix` of the same terms up to the order of float32 sums. Raises ValueError for terms
    of another precision or width, or a row that is not there.
    """
    if videos.dtype != torch.float16:
        raise ValueError(f"the video terms are {videos.dtype}, and a scan reads float16")
    keys = _bits(videos.tensors["keys"])
    values = _bits(videos.tensors["values"]) if "values" in videos.tensors else keys
    if keys.shape[1::2] != text.queries.shape:
        raise ValueError(
            f"the text is of width {text.width}, and the video terms of "
            f"{keys.shape[1] * keys.shape[3]} in {keys.shape[1]} heads"
        )
    if rows is None:
        rows = np.arange(len(videos))
    elif len(rows) and (rows.min() < 0 or rows.max() >= len(videos)):
        raise ValueError(f"rows from {rows.min()} to {rows.max()} are not all of {len(videos)}")
    scores = np.empty(len(rows), np.float32)
    # numba refuses more than it has; a user may ask for any number
    set_num_threads(min(num_threads, config.NUMBA_NUM_THREADS))
    _scan(
        keys,
        values,
        _bits(videos.tensors["forms"]),
        text.queries,
        text.probes,
        text.constants,
        rows.astype(np.int64, copy=False),
        scores,
    )
    return scores


def _bits(half: Tensor) -> np.ndarray:
    """Float16 as numba takes it, which knows no such numbers on a CPU."""
    return half.numpy().view(np.uint16)


def _widening(_typing_context: Any, _bits: Any) -> Any:
    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), build


_widened: Any = intrinsic(_widening)
"""The float32 of a float16 that is given by its bits."""


def _scan_rows(  # noqa: PLR0912, PLR0917
    keys: Any,
    values: Any,
    forms: Any,
    queries: Any,
    probes: Any,
    constants: Any,
    rows: Any,
    scores: Any,
) -> None:
    """The steps of `AttentionScorer.scores`, for one text and one video after the other.

    Measured and slower: several frames at once, which need fewer loads, since memory is then read
    in several streams; prefetching; pieces of rows that share their buffers.
    """
    num_heads, num_frames, head_dim = keys.shape[1:]
    size = num_heads * num_frames
    eps2, eps3, mean_square, scaled_square, cross_shift, shift_square = constants[:6]
    probe_bias, constant, shift = constants[6:]
    is_shared = num_heads == 1
    for row in prange(len(rows)):
        video = rows[row]
        weights = np.empty(size, np.float32)
        product = np.float32(0)
        for h in range(num_heads):
            own = weights[h * num_frames : (h + 1) * num_frames]
            products = np.empty(num_frames, np.float32)
            for f in range(num_frames):
                logit, of_probe = np.float32(0), np.float32(0)
                if is_shared:
                    for d in range(head_dim):
                        number = _widened(keys[video, h, f, d])
                        logit += number * queries[h, d]
                        of_probe += number * probes[h, d]
                else:
                    for d in range(head_dim):
                        logit += _widened(keys[video, h, f, d]) * queries[h, d]
                        of_probe += _widened(values[video, h, f, d]) * probes[h, d]
                own[f], products[f] = logit, of_probe
            largest = own.max()
            total = np.float32(0)
            for f in range(num_frames):
                own[f] = np.exp(own[f] - largest)
                total += own[f]
            for f in range(num_frames):
                own[f] /= total
                product += own[f] * products[f]
        # one product for each form, over contiguous memory
        outer = np.empty(size * size, np.float32)
        for j in range(size):
            for k in range(size):
                outer[j * size + k] = weights[j] * weights[k]
        form = forms[video].reshape(-1)
        quadratic, linear = np.empty(3, np.float32), np.empty(3, np.float32)
        for i in range(3):
            applied, along = np.float32(0), np.float32(0)
            for j in range(size * size):
                applied += _widened(form[i * size * size + j]) * outer[j]
            for j in range(size):
                along += _widened(form[(3 * size + i) * size + j]) * weights[j]
            quadratic[i], linear[i] = applied, along
        scale2 = 1 / np.sqrt(max(quadratic[0], np.float32(0)) + eps2)
        variance3 = (quadratic[1] * scale2 + linear[0]) * scale2 + mean_square
        scale3 = 1 / np.sqrt(max(variance3, np.float32(0)) + eps3)
        square = (quadratic[2] * scale2 + linear[1]) * scale2 + scaled_square
        square = (square * scale3 + linear[2] * scale2 + cross_shift) * scale3 + shift_square
        dot = ((product + probe_bias) * scale2 + constant) * scale3 + shift
        scores[row] = dot / max(np.sqrt(max(square, np.float32(0))), np.float32(MIN_NORM))


_scan: Any = njit(
    parallel=True,
    # without a fixed order of the sums the compiler can use vectors
    fastmath={"reassoc", "contract", "nsz"},
    error_model="numpy",
    cache=True,
)(_scan_rows)
