"""All figures of a model on a split."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
from matplotlib.figure import Figure

from xpool.bootstrap import recall_curves
from xpool.metrics import retrieval_ranks
from xpool.pooling import MeanPooling, Pooling
from xpool.scoring import score_matrix
from xpool_platform.config import ExperimentConfig
from xpool_platform.evaluate.attention import most_moved_figure, own_attention_figure
from xpool_platform.evaluate.encode import SplitEmbeds
from xpool_platform.evaluate.measure import PLAIN, Measured
from xpool_platform.evaluate.shown_frames import frames_reader
from xpool_platform.evaluate.slices import recall_slices
from xpool_platform.evaluate.top_videos import shown_queries
from xpool_platform.tracking.figures.histograms import (
    pair_similarities,
    rank_figure,
    similarity_figure,
)
from xpool_platform.tracking.figures.recall import recall_figure
from xpool_platform.tracking.figures.slices import slices_figure
from xpool_platform.tracking.figures.top_videos import top_videos_figure
from xpool_platform.tracking.figures.training_curves import training_curves_figure

MAX_K = 50


def run_figures(
    pooling: Pooling,
    videos: pa.Table,
    embeds: SplitEmbeds,
    measured: Measured,
    *,
    config: ExperimentConfig,
    history: Mapping[str, Sequence[tuple[int, float]]],
) -> dict[str, Figure]:
    """Every figure by its name, those of `tracking.figures.notes`; none if eval.num_figures is 0.

    `videos` is the decoded manifest that the embeddings are of. `history` holds what the training
    logged, metric to (step, value); without it the training's curves are left out. Raises UserError
    if frames of a video are damaged or gone.
    """
    if not config.eval.num_figures:
        return {}
    ranks, scores = measured.ranks[PLAIN], measured.scores
    num_videos, num_resamples = scores.shape[1], config.eval.num_resamples
    frames_of = frames_reader(videos, config.data.num_frames)
    figures = {
        "attention": own_attention_figure(
            pooling, videos, embeds, frames_of, num_captions=config.eval.num_figures
        ),
        "moved_attention": most_moved_figure(pooling, videos, embeds, frames_of),
        "top_videos": top_videos_figure(
            shown_queries(scores, ranks.t2v, ranks.video_of_text, videos, frames_of), num_videos
        ),
    }
    max_k = min(MAX_K, num_videos)
    baseline = None
    if not isinstance(pooling, MeanPooling):
        by_mean = score_matrix(MeanPooling(), embeds.text_embeds, embeds.frame_embeds)
        baseline = recall_curves(
            retrieval_ranks(by_mean.cpu().numpy(), ranks.video_of_text),
            max_k=max_k,
            num_resamples=num_resamples,
        )
    figures["recall"] = recall_figure(
        recall_curves(ranks, max_k=max_k, num_resamples=num_resamples),
        num_videos,
        pooling=config.model.pooling,
        baseline=baseline,
    )
    figures["ranks"] = rank_figure({"t2v": ranks.t2v, "v2t": ranks.v2t}, num_videos)
    figures["similarities"] = similarity_figure(*pair_similarities(scores, ranks.video_of_text))
    curves = training_curves_figure(history)
    if curves is not None:
        figures["training_curves"] = curves
    overall = {way: measured.report.metrics[f"{way}/R1"] for way in ("t2v", "v2t")}
    slicings = recall_slices(ranks, videos, num_resamples=num_resamples)
    figures["slices"] = slices_figure(slicings, overall)
    return figures
