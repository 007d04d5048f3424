import open_clip
import pytest
import torch
from safetensors.torch import save_file

from xpool.clip import build_clip, build_tokenizer, encode_text_prefix
from xpool.clip_names import check_clip_name, clip_image_size
from xpool.config import LossConfig, ModelConfig
from xpool.model import build_model
from xpool.tiny import TINY_CONFIG


def test_unknown_towers_are_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"'ViT-B32' is not known .* nearest: ViT-B-32"):
        check_clip_name(ModelConfig(clip_name="ViT-B32"))


def test_unknown_weights_are_named_with_the_tags_there_are():
    with pytest.raises(ValueError, match=r"'openay' is neither .* tags: openai"):
        check_clip_name(ModelConfig(clip_name="ViT-B-32", clip_pretrained="openay"))


def test_known_towers_and_weights_pass():
    check_clip_name(ModelConfig(clip_name="ViT-B-32", clip_pretrained="openai"))
    check_clip_name(ModelConfig(clip_name="tiny"))
    assert clip_image_size(ModelConfig(clip_name="ViT-L-14-336")) == 336


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_checkpoint_file_of_open_clip_is_loaded(tmp_path, suffix):
    torch.manual_seed(0)
    saved = open_clip.CLIP(**TINY_CONFIG)
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save({"state_dict": saved.state_dict()}, path)
    else:
        save_file(saved.state_dict(), path)
    torch.manual_seed(1)
    loaded = build_clip(ModelConfig(clip_name="tiny", clip_pretrained=str(path)))
    for name, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_a_file_that_is_no_checkpoint_is_a_clear_error(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="could not be loaded into tiny"):
        build_clip(ModelConfig(clip_name="tiny", clip_pretrained=str(path)))


def test_towers_of_open_clip_by_name():
    config = ModelConfig(clip_name="RN50", quick_gelu=True)
    model = build_model(config)
    assert model.image_size == 224
    assert model.embed_dim == 1024
    assert isinstance(model.clip.transformer.resblocks[0].mlp.gelu, open_clip.model.QuickGELU)
    assert build_tokenizer(config)(["a dog"]).shape == (1, 77)
    embeds = model.encode_frames(torch.zeros(1, 2, 3, 224, 224, dtype=torch.uint8))
    assert embeds.shape == (1, 2, 1024)


def test_the_tiny_vocabulary_covers_any_text():
    tokenizer = build_tokenizer(ModelConfig(clip_name="tiny"))
    tokens = tokenizer(["a small red ring", "größe 東京 🙂 " * 30, ""])
    assert tokens.shape == (3, TINY_CONFIG["text_cfg"]["context_length"])
    assert tokens.max() < TINY_CONFIG["text_cfg"]["vocab_size"]
    assert tokens[0].tolist() != tokens[1].tolist()


def test_the_temperature_of_the_towers_is_kept_unless_set():
    clip = build_clip(ModelConfig(clip_name="tiny"))
    kept = build_model(ModelConfig(clip_name="tiny"), LossConfig())
    assert kept.logit_scale.item() == pytest.approx(clip.logit_scale.item())


def test_images_are_normalised_by_the_tag_also_where_its_weights_come_from_a_checkpoint(caplog):
    config = ModelConfig(clip_name="MobileCLIP2-S0", clip_pretrained="dfndr2b", pooling="mean")
    model = build_model(config, load_pretrained=False)
    assert (model.image_mean, model.image_std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert not caplog.records


def test_weights_that_a_checkpoint_replaces_may_be_gone():
    config = ModelConfig(clip_name="tiny", clip_pretrained="/gone/towers.pt")
    build_model(config, load_pretrained=False)
    with pytest.raises(ValueError, match=r"/gone/towers.pt' is neither a checkpoint file"):
        build_model(config)


@pytest.mark.parametrize("name", ["tiny", "ViT-B-32"])
@torch.no_grad()
def test_what_follows_a_text_has_no_part_in_it(name):
    torch.manual_seed(0)
    config = ModelConfig(clip_name=name)
    clip = build_clip(config, load_pretrained=False).eval()
    texts = ["a dog", "a much longer sentence about two dogs " * 20, "", "2 red circles!"]
    for some in (texts, texts[:1], [texts[0], texts[3]]):
        tokens = build_tokenizer(config)(some)
        torch.testing.assert_close(
            encode_text_prefix(clip, tokens), clip.encode_text(tokens), rtol=1e-5, atol=1e-5
        )


@torch.no_grad()
def test_towers_of_another_kind_read_all():
    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-16-SigLIP", pretrained=None).eval()
    tokens = torch.randint(1, 1000, (2, clip.context_length))
    assert torch.equal(encode_text_prefix(clip, tokens), clip.encode_text(tokens))
