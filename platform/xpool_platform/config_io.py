"""Configs as files and as flat parameters."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import cattrs

from xpool_platform.config import ExperimentConfig

Kind = TypeVar("Kind", bound=ExperimentConfig)

_converter = cattrs.Converter(forbid_extra_keys=True)


def as_kind(config: ExperimentConfig, kind: type[Kind], **more: Any) -> Kind:
    """The same experiment as a config of a job, or as a plain one, with the job's own fields."""
    return kind(**{f.name: getattr(config, f.name) for f in fields(ExperimentConfig)}, **more)


def flatten(config: Any) -> dict[str, Any]:
    """`section.field` to value, for all fields of a config of any kind."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = value

    visit("", asdict(config))
    return flat


def portable(config: ExperimentConfig) -> ExperimentConfig:
    """What a model's use needs: no path of this machine, no address of a server goes with it."""
    data = replace(config.data, root="", annotations="", frames_dir="")
    model = config.model
    if "/" in model.clip_pretrained:  # a file, and no tag
        model = replace(model, clip_pretrained="")
    return ExperimentConfig(
        name=config.name, data=data, model=model, loss=config.loss, eval=config.eval
    )


def config_bytes(config: ExperimentConfig) -> bytes:
    """The whole config as JSON."""
    return json.dumps(asdict(config), indent=2).encode() + b"\n"


def parse_config(content: bytes, whose: str) -> ExperimentConfig:
    """A config from its JSON. Raises ValueError for unknown or missing fields."""
    try:
        return _converter.structure(json.loads(content), ExperimentConfig)
    except cattrs.BaseValidationError as error:
        reasons = "; ".join(cattrs.transform_error(error))
        raise ValueError(f"{whose} is not a config of this version: {reasons}") from error


def write_config(config: ExperimentConfig, path: Path) -> None:
    """The whole config as a JSON file."""
    path.write_bytes(config_bytes(config))


def read_config(path: Path) -> ExperimentConfig:
    """A config that `write_config` wrote. Raises ValueError for unknown or missing fields."""
    return parse_config(path.read_bytes(), str(path))
