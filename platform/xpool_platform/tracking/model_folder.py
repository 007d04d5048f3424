"""A checkpoint as a folder that `mlflow.pyfunc.load_model` takes, without anything pickled."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path

import mlflow.pyfunc
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

import xpool
from xpool_platform.checkpoint_files import (
    CONFIG,
    STATE,
    WEIGHTS,
    digest_of,
    read_file,
    read_state,
    write_files,
)
from xpool_platform.config import ExperimentConfig
from xpool_platform.config_io import config_bytes, parse_config, portable
from xpool_platform.tracking.needed_code import NeededCode, needed_code

LOADER = "xpool_platform.packaged_model"
CHILD = "xpool_platform.data.decode_child"
"""Run by its name, so that no import tells of it."""

BELOW_OPEN_CLIP = ("torchvision",)
"""Decides on numbers, and nothing of ours imports it."""

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(Array(DataType.string), name) for name in ("texts", "videos")]),
    outputs=Schema([ColSpec(Array(Array(DataType.double)), "scores")]),
)


def save_model_folder(
    folder: Path, checkpoint: str, *, texts: Sequence[str], videos: Sequence[str]
) -> None:
    """Write the model of a checkpoint, with the code that it needs, into a new folder.

    `texts` and `videos`, the paths of video files, are its input example. Raises
    DamagedCheckpointError.
    """
    config = portable(parse_config(read_file(checkpoint, CONFIG).to_pybytes(), checkpoint))
    state = read_state(checkpoint)
    weights = read_file(checkpoint, WEIGHTS).to_pybytes()
    code = needed_code([LOADER, CHILD])
    with tempfile.TemporaryDirectory() as temporary:
        data, sources = Path(temporary, "checkpoint"), Path(temporary, "code")
        files = {
            WEIGHTS: weights,
            CONFIG: config_bytes(config),
            STATE: read_file(checkpoint, STATE).to_pybytes(),
        }
        write_files(str(data), files)
        _copy_sources(code, sources)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            data_path=str(data),
            code_paths=[str(path) for path in sorted(sources.iterdir())],
            signature=SIGNATURE,
            input_example={"texts": list(texts), "videos": list(videos)},
            pip_requirements=_requirements(code, config),
            metadata={"weights": digest_of(weights), "step": state.step},
            model_config={"device": "cpu"},
        )


def _copy_sources(code: NeededCode, folder: Path) -> None:
    """The model's package whole, and of the platform's only what is needed."""
    package = Path(xpool.__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for place, source in code.files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / place)


def _requirements(code: NeededCode, config: ExperimentConfig) -> list[str]:
    """The packages that loading and predicting import, at the versions that are installed here."""
    packages = {*code.packages, *BELOW_OPEN_CLIP} - sys.stdlib_module_names
    if config.data.decoder == "decord":
        packages.add("decord")
    owners = packages_distributions()
    names = sorted({owners[package][0] for package in packages})
    # the build of a version, as +cpu, is not on every index
    return [f"{name}=={version(name).split('+')[0]}" for name in names]
