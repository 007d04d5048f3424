"""Configs as files and as flat parameters."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cattrs

from xpool_platform.config import ExperimentConfig

_converter = cattrs.Converter(forbid_extra_keys=True)


def flatten(config: ExperimentConfig) -> dict[str, Any]:
    """`section.field` to value, for all fields."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = value

    visit("", asdict(config))
    return flat


def write_config(config: ExperimentConfig, path: Path) -> None:
    """The whole config as JSON."""
    path.write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")


def read_config(path: Path) -> ExperimentConfig:
    """A config that `write_config` wrote. Raises ValueError for unknown or missing fields."""
    data = json.loads(path.read_text(encoding="utf-8"))
    try:
        return _converter.structure(data, ExperimentConfig)
    except cattrs.BaseValidationError as error:
        reasons = "; ".join(cattrs.transform_error(error))
        raise ValueError(f"{path} is not a config of this version: {reasons}") from error
