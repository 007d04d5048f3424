"""The scan over float16 terms against the scores of the same terms."""

import warnings

import numpy as np
import pytest
import torch

from xpool.half_scan import scan, scanned_texts
from xpool.pooling import CrossAttentionPooling
from xpool.scoring import make_scorer, score_matrix, video_terms

WIDTH = 48


def make(num_heads, num_videos=300, num_frames=7, seed=0):
    """A scorer far from the identity's, texts, the same for a scan, float16 terms of videos."""
    torch.manual_seed(seed)
    pooling = CrossAttentionPooling(WIDTH, num_heads).eval()
    for parameter in pooling.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    frames = torch.randn(num_videos, num_frames, WIDTH)
    terms = video_terms(pooling, frames).to(torch.float16)
    scorer, texts = make_scorer(pooling), torch.randn(6, WIDTH)
    return scorer, texts, scanned_texts(scorer, texts), terms


@pytest.mark.parametrize("num_heads", [1, 2, 4, WIDTH])
@pytest.mark.parametrize("num_frames", [1, 7, 12])
def test_scores_are_those_of_the_matrix(num_heads, num_frames):
    scorer, texts, scanned, terms = make(num_heads, num_frames=num_frames)
    expected = score_matrix(scorer, texts, terms).numpy()
    for text, row in zip(scanned, expected, strict=True):
        np.testing.assert_allclose(scan(text, terms, num_threads=2), row, atol=2e-6)


def test_chosen_rows_in_their_order():
    _, _, (text, *_), terms = make(2)
    rows = np.array([299, 0, 17, 17])
    expected = scan(text, terms)[rows]
    np.testing.assert_array_equal(scan(text, terms, rows), expected)
    assert scan(text, terms, np.array([], dtype=np.int64)).shape == (0,)


def test_all_float16_numbers_are_widened_exactly():
    scorer, texts, (text, *_), terms = make(1, num_videos=4, num_frames=2)
    tiny = torch.tensor([2.0**-24, -(2.0**-24), 2.0**-14, 65504.0], dtype=torch.float16)
    terms.tensors["keys"][0, 0, 0, :4] = tiny  # subnormal numbers, and the largest
    expected = score_matrix(scorer, texts[:1], terms).numpy()[0]
    np.testing.assert_allclose(scan(text, terms), expected, atol=2e-6)


def test_memory_that_cannot_be_written_is_read(tmp_path):
    _, _, (text, *_), terms = make(1)
    expected = scan(text, terms)
    for name, tensor in terms.tensors.items():
        np.save(tmp_path / name, tensor.numpy())
        mapped = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        with warnings.catch_warnings(action="ignore"):  # torch warns, once in a process
            terms.tensors[name] = torch.from_numpy(mapped)
    np.testing.assert_array_equal(scan(text, terms), expected)


def test_what_does_not_fit_is_named():
    scorer, _, (text, *_), terms = make(1)
    with pytest.raises(ValueError, match="float32, and a scan reads float16"):
        scan(text, terms.to(torch.float32))
    with pytest.raises(ValueError, match="width 48, and the video terms of 48 in 2 heads"):
        scan(text, make(2)[3])
    with pytest.raises(ValueError, match="not finite"):
        scanned_texts(scorer, torch.full((1, WIDTH), torch.nan))
    with pytest.raises(ValueError, match="rows from 0 to 300 are not all of 300"):
        scan(text, terms, np.array([0, 300]))
