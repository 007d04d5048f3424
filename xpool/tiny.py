"""Tiny CLIP towers, which train from scratch on a CPU in minutes."""

from typing import Any

TINY = "tiny"
TINY_NUM_MERGES = 4096
"""Merges of CLIP's vocabulary that the tiny towers keep; rarer words become several tokens."""

TINY_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": 48,
        "patch_size": 12,
        "width": 96,
        "layers": 2,
        "head_width": 32,
        "mlp_ratio": 2.0,
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 2 * 256 + TINY_NUM_MERGES + 2,
        "width": 96,
        "heads": 3,
        "layers": 2,
    },
}
