"""Runs in an MLflow store, as trainings and evaluations leave them, without training."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from mlflow.tracking import MlflowClient

from xpool.bootstrap import bootstrap_intervals
from xpool.metrics import chance_metrics, metrics_of_ranks, retrieval_ranks
from xpool_platform.report import RetrievalReport
from xpool_platform.result_files import ranks_table, write_results

NUM_VIDEOS, CAPTIONS_EACH = 40, 2


def write_evaluation(
    folder: Path,
    strength: float,
    *,
    num_videos: int = NUM_VIDEOS,
    split: str = "test",
    selected_on: str = "val",
    num_missing: int = 0,
) -> RetrievalReport:
    """metrics.json and ranks.parquet of a model that is as good as `strength` says."""
    video_of_text = np.repeat(np.arange(num_videos), CAPTIONS_EACH)
    scores = np.random.default_rng(5).random((len(video_of_text), num_videos))
    scores[np.arange(len(video_of_text)), video_of_text] += strength
    ranks = retrieval_ranks(scores, video_of_text)
    report = RetrievalReport(
        split=split,
        num_videos=num_videos,
        num_captions=len(video_of_text),
        metrics=metrics_of_ranks(ranks),
        intervals=bootstrap_intervals(ranks, num_resamples=100),
        chance=chance_metrics(video_of_text),
        processed_metrics={},
        processed_intervals={},
        selected_on=selected_on,
        num_missing=num_missing,
    )
    videos = [f"{split}_{i}.mp4" for i in range(num_videos)]
    captions = [f"caption {i} of video {video}" for i, video in enumerate(video_of_text)]
    table = ranks_table({"plain": ranks}, scores, videos, captions)
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder, {"experiment": "shapes", **asdict(report)}, table, None)
    return report


def record_run(
    client: MlflowClient,
    name: str,
    results: Path | None,
    *,
    experiment: str = "shapes",
    artifacts: Path | None = None,
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    folder: str | None = None,
    status: str = "FINISHED",
) -> str:
    """A run with these results among its artifacts, in `folder` or the root; its id.

    `artifacts` is where a store in a file keeps the artifacts.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        location = artifacts.as_uri() if artifacts else None
        experiment_id = client.create_experiment(experiment, location)
    else:
        experiment_id = found.experiment_id
    run_id = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
    for key, value in {"model.pooling": "xpool", **(params or {})}.items():
        client.log_param(run_id, key, value)
    if results is not None:
        client.log_artifacts(run_id, str(results), folder)
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id
