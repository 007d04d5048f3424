"""The scan over float16 terms against the scores of the same terms."""

import warnings

import numpy as np
import pytest
import torch

from xpool.half_scan import scan
from xpool.pooling import CrossAttentionPooling
from xpool.scoring import make_scorer, score_matrix, video_terms

WIDTH = 48


def make(num_heads, num_videos=300, num_frames=7, seed=0):
    """A scorer far from the identity's, texts, and terms of videos in float16."""
    torch.manual_seed(seed)
    pooling = CrossAttentionPooling(WIDTH, num_heads).eval()
    for parameter in pooling.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    frames = torch.randn(num_videos, num_frames, WIDTH)
    terms = video_terms(pooling, frames).to(torch.float16)
    return make_scorer(pooling), torch.randn(6, WIDTH), terms


@pytest.mark.parametrize("num_heads", [1, 2, 4, WIDTH])
@pytest.mark.parametrize("num_frames", [1, 7, 12])
def test_scores_are_those_of_the_matrix(num_heads, num_frames):
    scorer, texts, terms = make(num_heads, num_frames=num_frames)
    expected = score_matrix(scorer, texts, terms).numpy()
    for text, row in zip(texts, expected, strict=True):
        np.testing.assert_allclose(scan(scorer, text, terms, num_threads=2), row, atol=2e-6)


def test_chosen_rows_in_their_order():
    scorer, texts, terms = make(2)
    rows = np.array([299, 0, 17, 17])
    expected = scan(scorer, texts[0], terms)[rows]
    np.testing.assert_array_equal(scan(scorer, texts[0], terms, rows), expected)
    assert scan(scorer, texts[0], terms, np.array([], dtype=np.int64)).shape == (0,)


def test_all_float16_numbers_are_widened_exactly():
    scorer, texts, terms = make(1, num_videos=4, num_frames=2)
    tiny = torch.tensor([2.0**-24, -(2.0**-24), 2.0**-14, 65504.0], dtype=torch.float16)
    terms.tensors["keys"][0, 0, 0, :4] = tiny  # subnormal numbers, and the largest
    expected = score_matrix(scorer, texts[:1], terms).numpy()[0]
    np.testing.assert_allclose(scan(scorer, texts[0], terms), expected, atol=2e-6)


def test_memory_that_cannot_be_written_is_read(tmp_path):
    scorer, texts, terms = make(1)
    expected = scan(scorer, texts[0], terms)
    for name, tensor in terms.tensors.items():
        np.save(tmp_path / name, tensor.numpy())
        mapped = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        with warnings.catch_warnings(action="ignore"):  # torch warns, once in a process
            terms.tensors[name] = torch.from_numpy(mapped)
    np.testing.assert_array_equal(scan(scorer, texts[0], terms), expected)


def test_what_does_not_fit_is_named():
    scorer, texts, terms = make(1)
    with pytest.raises(ValueError, match="float32, and a scan reads float16"):
        scan(scorer, texts[0], terms.to(torch.float32))
    with pytest.raises(ValueError, match="width 48"):
        scan(scorer, texts[0, :40], terms)
    with pytest.raises(ValueError, match="not finite"):
        scan(scorer, torch.full((WIDTH,), torch.nan), terms)
    with pytest.raises(ValueError, match="rows from 0 to 300 are not all of 300"):
        scan(scorer, texts[0], terms, np.array([0, 300]))
