"""What an encoder gives an index of a video, in this process; what is not finite is refused."""

import numpy as np
import pytest
import simplejpeg
import torch

from made_index import row_of
from xpool.clip import build_tokenizer
from xpool.config import ModelConfig
from xpool.model import build_model
from xpool.scoring import video_terms
from xpool_platform.config import ExperimentConfig
from xpool_platform.errors import UserError
from xpool_platform.search.encode_videos import SampledClip, VideoEncoder, half_terms, mean_embeds

CONFIG = ExperimentConfig(model=ModelConfig(clip_name="tiny", num_heads=2))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(CONFIG.model, load_pretrained=False).eval()


def clip(seed, times=(0.0, 0.5, 1.0, 1.0), size=(48, 96)):
    rng = np.random.default_rng(seed)
    pictures = {t: np.full((*size, 3), rng.integers(0, 256, 3), np.uint8) for t in times}
    return SampledClip(np.stack([pictures[t] for t in times]), np.array(times))


def encoder_of(model, side=24):
    return VideoEncoder(model, CONFIG, torch.device("cpu"), side)


ROWS = [row_of("a", ["a red dog", "x"]), row_of("b"), row_of("c", ["y"])]


def test_terms_means_and_captions_are_those_of_the_model(model):
    clips = [clip(i) for i in range(3)]
    encoder = encoder_of(model)
    encoded = encoder.encode(ROWS, clips)
    frames = encoder.frame_embeds(clips)
    assert frames.shape == (3, 4, 128)
    expected = video_terms(model.pooling, frames)
    for name, tensor in encoded.terms.tensors.items():
        assert torch.equal(tensor, expected.tensors[name].half())
    assert torch.equal(encoded.mean_embeds, mean_embeds(frames).half())
    with torch.no_grad():
        texts = model.encode_text(build_tokenizer(CONFIG.model)(["a red dog", "x", "y"]))
    np.testing.assert_allclose(encoded.caption_embeds, texts.numpy(), atol=2e-3)
    assert encoded.rows == [{**row, "times_s": [0.0, 0.5, 1.0, 1.0]} for row in ROWS]
    assert encoder.encode(ROWS[1:2], clips[:1]).caption_embeds.shape == (0, 128)


def test_a_video_by_itself_is_the_mean_of_its_directions():
    frames = torch.tensor([[[2.0, 0.0], [0.0, 5.0]], [[1.0, 0.0], [9.0, 0.0]]])
    half = 0.5**0.5
    torch.testing.assert_close(mean_embeds(frames), torch.tensor([[half, half], [1.0, 0.0]]))


def test_thumbnails_are_the_frames_small_and_never_enlarged(model):
    (jpegs,) = encoder_of(model, 24).encode(ROWS[1:2], [clip(7)]).thumbnails
    assert len(jpegs) == 4
    assert jpegs[2] is jpegs[3]
    for jpeg, frame in zip(jpegs, clip(7).frames, strict=True):
        picture = simplejpeg.decode_jpeg(jpeg)
        assert picture.shape == (24, 48, 3)
        assert np.abs(picture.astype(int) - frame[0, 0].astype(int)).max() < 8
    (jpegs,) = encoder_of(model, 500).encode(ROWS[1:2], [clip(7)]).thumbnails
    assert simplejpeg.decode_jpeg(jpegs[0]).shape == (48, 96, 3)
    assert encoder_of(model, 0).encode(ROWS[1:2], [clip(7)]).thumbnails == [[]]


def test_a_video_without_finite_embeddings_is_named(model):
    model.clip.visual.proj.data[0, 0] = torch.nan
    with pytest.raises(UserError, match="no finite embedding for the video 'b'"):
        encoder_of(model).encode(ROWS[1:2], [clip(0)])


@pytest.mark.parametrize("number", [torch.nan, 1e7])
def test_a_caption_without_finite_embeddings_is_named(model, number):
    """One that float16 cannot hold is none either."""
    model.clip.text_projection.data[0, 0] = number
    with pytest.raises(UserError, match=r"no finite embedding .*caption 'a red dog'"):
        encoder_of(model).encode(ROWS, [clip(i) for i in range(3)])


def test_terms_too_large_for_float16_are_said(model):
    terms = video_terms(model.pooling, torch.randn(2, 4, 128))
    terms.tensors["forms"][1, 0, 0] = 1e5
    with pytest.raises(UserError, match=r"videos from 'a' on do not fit float16 .* of video 1"):
        half_terms(terms, ROWS[:2])
