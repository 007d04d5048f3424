"""An evaluation on a running Ray: encode, score, compare, record."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from xpool.bootstrap import PairedDifference, paired_bootstrap
from xpool.model import XPool
from xpool_platform.checkpoint_files import is_checkpoint
from xpool_platform.config import EvaluationConfig, ExperimentConfig
from xpool_platform.config_io import as_kind
from xpool_platform.console import Console, Stage
from xpool_platform.data.decode import DecodedManifest
from xpool_platform.errors import UserError
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.encoders import Encoders
from xpool_platform.evaluate.measure import PLAIN, measure_split
from xpool_platform.evaluate.recorded_results import record_results, training_history
from xpool_platform.evaluate.trained_model import load_model
from xpool_platform.locations import is_uri
from xpool_platform.prepare import decode_videos
from xpool_platform.report import RetrievalReport
from xpool_platform.result_files import query_table, read_ranks
from xpool_platform.run_inputs import dataset_records
from xpool_platform.run_page import record_page
from xpool_platform.tracking.tracker import Tracker


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What was found out about a model on a split."""

    report: RetrievalReport
    differences: dict[str, PairedDifference]
    """To the run of `against`, if one was given."""


def evaluate(
    config: EvaluationConfig,
    manifest: pa.Table,
    *,
    run_dir: Path,
    tracker: Tracker,
    prefix: str,
    command: str,
    selected_on: str,
    console: Console,
    decoded: DecodedManifest | None = None,
) -> Evaluation:
    """Encode the split, score it, write the results into run_dir and record them.

    `prefix` stands before the names of the metrics, and is not empty where the run is that of
    something else; `command` repeats the evaluation; selected_on is the split on which the
    checkpoint was chosen, empty where that is not known; `decoded`: the videos, where they are
    decoded already. Raises UserError as `load_model`, `decode_videos` and `read_ranks` do.
    """
    model = load_model(config)
    split = config.eval.split
    wanted = manifest.filter(pc.equal(manifest["split"], split))
    if decoded is None:
        decoded = decode_videos(wanted, config, run_dir=run_dir, tracker=tracker, console=console)
    else:
        decoded = decoded.of_split(split)
    videos = decoded.videos
    tracker.log_inputs(dataset_records(videos, config, {split}))
    other = None
    if config.against:
        queries = query_table(videos["video_id"].to_pylist(), videos["captions"].to_pylist())
        other = read_ranks(Path(config.against), queries)
    bank = _bank_captions(manifest, config)
    with console.stage("encoding") as stage:
        embeds, bank_embeds = _encoded(model, videos, bank, config, stage)
    measured = measure_split(
        model,
        embeds,
        videos,
        config.eval,
        num_missing=len(decoded.bad),
        selected_on=selected_on,
        bank_embeds=bank_embeds,
    )
    differences = {}
    if other is not None:
        differences = paired_bootstrap(measured.ranks[PLAIN], other)
    summary = {
        "experiment": config.name,
        "checkpoint": config.checkpoint,
        "pooling": config.model.pooling,
        "num_frames": config.data.num_frames,
        **asdict(measured.report),
        "missing": [asdict(bad) for bad in decoded.bad],
        "num_bank_captions": len(bank),
        "against": config.against,
        "differences": {key: asdict(value) for key, value in differences.items()},
    }
    values = _flat(measured.report, differences)
    tracker.log_metrics({0: {f"{prefix}{split}/{key}": value for key, value in values.items()}})
    folder = f"evaluations/{run_dir.name}"
    record_results(
        measured,
        model=model,
        videos=videos,
        embeds=embeds,
        config=config,
        summary=summary,
        history=_history(config),
        tracker=tracker,
        run_dir=run_dir,
        scores=config.save_scores,
        files_in=folder,
        figures_in=folder if prefix else "",
    )
    record_page(
        measured.report,
        config=as_kind(config, ExperimentConfig),
        command=command,
        videos=videos,
        bad=decoded.bad,
        run_dir=run_dir,
        tracker=tracker,
        folder=folder if prefix else "",
    )
    return Evaluation(report=measured.report, differences=differences)


def _history(config: EvaluationConfig) -> dict[str, list[tuple[int, float]]]:
    """What the training of the checkpoint logged, where its run's folder is here."""
    if not is_checkpoint(config.checkpoint):
        return {}
    checkpoints = Path(config.checkpoint).parent
    runs = Path(config.output_dir, "runs")
    elsewhere = is_uri(config.checkpoint)  # below a folder of the run's name
    logged = training_history(runs / checkpoints.name if elsewhere else checkpoints.parent)
    return {key: points for key, points in logged.items() if len(points) > 1 or key == "best/step"}


def _encoded(
    model: XPool, videos: pa.Table, bank: list[str], config: EvaluationConfig, stage: Stage
) -> tuple[SplitEmbeds, Tensor | None]:
    """Embeddings of the split and of the query bank. Raises UserError if one is not finite."""
    captions = videos["captions"].to_pylist()
    texts = [text for of_video in captions for text in of_video]
    encoders = Encoders(model, config)
    try:
        frame_embeds = encoders.videos(videos, stage)
        text_embeds = encoders.texts(texts, stage)
        bank_embeds = encoders.texts(bank, stage) if bank else None
    finally:
        encoders.stop()
    _check_finite("video", frame_embeds, videos["video_id"].to_pylist())
    _check_finite("caption", text_embeds, texts)
    embeds = SplitEmbeds(
        text_embeds=text_embeds,
        frame_embeds=frame_embeds,
        video_of_text=np.repeat(np.arange(len(videos)), [len(each) for each in captions]),
    )
    return embeds, bank_embeds


def _bank_captions(manifest: pa.Table, config: EvaluationConfig) -> list[str]:
    """Captions of training videos, a random choice if there are more than are wanted."""
    if config.eval.split == "train":
        return []
    train = manifest.filter(pc.equal(manifest["split"], "train"))
    captions = [text for texts in train["captions"].to_pylist() for text in texts]
    if len(captions) <= config.num_bank_captions:
        return captions
    rng = np.random.default_rng(config.train.seed)
    chosen = rng.choice(len(captions), config.num_bank_captions, replace=False)
    return [captions[i] for i in sorted(chosen)]


def _check_finite(kind: str, embeds: Tensor, names: list[str]) -> None:
    bad = (~torch.isfinite(embeds.flatten(1))).any(dim=1).nonzero().flatten().tolist()
    if bad:
        raise UserError(
            f"the model gives no finite embedding for {len(bad)} of {len(names)} {kind}s, the "
            f"first {names[bad[0]]!r}; its training diverged, or its checkpoint is damaged"
        )


def _flat(report: RetrievalReport, differences: dict[str, PairedDifference]) -> dict[str, float]:
    values = report.flat_metrics() | {"num_missing": float(report.num_missing)}
    for key, found in differences.items():
        values |= {f"against/{key}": found.difference, f"against/{key}_p": found.p_value}
    return values
