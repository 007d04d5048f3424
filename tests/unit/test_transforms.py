import numpy as np
import pytest
import torch
from PIL import Image

from xpool.transforms import eval_transform, normalize_frames, train_transform


@pytest.fixture
def photo():
    """A smooth picture of odd size, as [1, 3, height, width]."""
    y, x = np.mgrid[0:91, 0:130]
    picture = np.stack([x * 255 / 130, y * 255 / 91, 127 + 127 * np.sin((x + y) / 9)], -1)
    return torch.from_numpy(picture.astype(np.uint8)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("portrait", [False, True])
def test_evaluation_is_pil_bicubic_and_the_centre(photo, portrait):
    frames = photo.mT.contiguous() if portrait else photo
    image = Image.fromarray(frames[0].permute(1, 2, 0).numpy())
    width, height = (48, int(48 * 130 / 91)) if portrait else (int(48 * 130 / 91), 48)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    top, left = round((height - 48) / 2), round((width - 48) / 2)
    expected = resized[top : top + 48, left : left + 48].astype(int)
    got = eval_transform(frames, 48)[0].permute(1, 2, 0).numpy().astype(int)
    assert abs(got - expected).max() <= 1


def test_all_frames_of_a_clip_get_the_same_crop_and_flip(photo):
    clip = photo.repeat(7, 1, 1, 1)
    seen = set()
    for seed in range(20):
        cropped = train_transform(clip, 32, np.random.default_rng(seed))
        assert cropped.shape == (7, 3, 32, 32)
        assert cropped.dtype == torch.uint8
        assert (cropped == cropped[:1]).all()
        again = train_transform(clip, 32, np.random.default_rng(seed))
        assert (cropped == again).all()
        seen.add(cropped[0].numpy().tobytes())
    assert len(seen) == 20


def test_a_frame_of_the_right_size_is_left_alone(photo):
    square = photo[..., :91, :91]
    assert (eval_transform(square, 91) == square).all()


def test_normalising_gives_the_towers_distribution():
    frames = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    got = normalize_frames(frames, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0)).flatten()
    torch.testing.assert_close(got, torch.tensor([-1.0, (128 / 255 - 0.25) / 0.25, 0.5]))
