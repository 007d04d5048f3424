"""Making or changing an index, from the driver: checks, decoding, encoding, one new version."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from xpool.model import XPool
from xpool_platform.checkpoint_files import find_checkpoint, read_checkpoint_config
from xpool_platform.cluster_check import check_cluster
from xpool_platform.console import Console
from xpool_platform.data.decode import BadVideo, decode_manifest, errors_table
from xpool_platform.data.store_catalogue import open_store
from xpool_platform.data.video import FrameSettings
from xpool_platform.errors import UserError, raised_as_user_error
from xpool_platform.preflight import prepare_output_dir, with_absolute_paths
from xpool_platform.prepare import bad_lines, frames_dir, made_manifest, own_manifest
from xpool_platform.runtime import ray_session
from xpool_platform.search.changes import (
    Change,
    change_to,
    indexed_rows,
    removal_of,
    with_identities,
)
from xpool_platform.search.config import IndexConfig
from xpool_platform.search.encode_videos import VideoEncoder
from xpool_platform.search.index_files import (
    ERRORS,
    INDEX,
    MODELS,
    IndexVersion,
    check_hashes,
    index_folder,
    read_version,
    remove_unnamed,
    write_version,
    writing,
)
from xpool_platform.search.index_writer import IndexWriter, new_version
from xpool_platform.search.indexed_model import (
    fingerprint_of,
    load_any_model,
    load_indexed_model,
    with_settings_of,
    with_trained_settings,
)
from xpool_platform.search.recall import caption_queries, measure_recall, read_queries
from xpool_platform.search.search_index import SearchIndex
from xpool_platform.search.sources import Source, find_source, of_split, stored_manifest
from xpool_platform.storage_check import check_seen, check_storage


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexResult:
    """What was done."""

    folder: Path
    version: IndexVersion
    num_added: int
    num_removed: int
    bad: list[BadVideo]
    """Videos that cannot be decoded."""

    errors_path: Path
    """Where those are listed, if there are any."""


def run_index(config: IndexConfig, console: Console) -> IndexResult:
    """Make an index, or change one that is there.

    Until all is written the former index, if there is one, stays what it is. Raises UserError for
    what the user can put right, most of it before Ray starts.
    """
    folder = index_folder(config.out, what="out")
    config = _with_places(config)
    if config.check:
        version = read_version(folder)
        num_bytes = check_hashes(folder, version)
        model, _ = load_indexed_model(folder / MODELS / version.model, version.fingerprint)
        # reads the first stages, whose names are their hashes
        SearchIndex(folder, version, model.pooling)
        console.line(f"{num_bytes / 2**20:,.1f} MiB of {folder} are as they were written")
        return _unchanged(folder, version)
    if config.remove or config.compact:
        read_version(folder)
    with writing(folder):
        before = read_version(folder) if (folder / INDEX).exists() else None
        if config.remove or config.compact:
            return _tidied(folder, config, console)
        config = _trained(folder, config, before)
        source = _source(config)
        model, version = _model(folder, config, before)
        result = _indexed(folder, config, model, version, source, console)
        remove_unnamed(folder)
        return result


def _with_places(config: IndexConfig) -> IndexConfig:
    config = with_absolute_paths(config)
    if config.queries:
        config = replace(config, queries=str(Path(config.queries).expanduser().absolute()))
        read_queries(Path(config.queries))
    if config.checkpoint:
        found = find_checkpoint(config.checkpoint, Path(config.output_dir))
        config = replace(config, checkpoint=found)
    # frames are decoded once, for an index as well
    return replace(config, data=replace(config.data, cache="frames"))


def _trained(folder: Path, config: IndexConfig, before: IndexVersion | None) -> IndexConfig:
    """The config with what its model is and sees, without loading it."""
    if config.checkpoint:
        return with_trained_settings(config, config.checkpoint)
    if before is None:
        raise UserError(
            f"{folder} holds no index yet, and a new one needs a model: --checkpoint RUN"
        )
    return with_settings_of(config, read_checkpoint_config(str(folder / MODELS / before.model)))


def _model(
    folder: Path, config: IndexConfig, before: IndexVersion | None
) -> tuple[XPool, IndexVersion]:
    """The model, and the index that it goes on from.

    Raises UserError for a model that is not the index's own.
    """
    if not config.checkpoint:
        assert before is not None
        return load_indexed_model(folder / MODELS / before.model, before.fingerprint)[0], before
    model = load_any_model(config, config.checkpoint)
    fingerprint = fingerprint_of(model, config)
    if before is not None and before.fingerprint != fingerprint:
        raise UserError(
            f"checkpoint {config.checkpoint} is not the model that {folder} was made with "
            f"({before.checkpoint}): its scores could not be compared. Give that one, leave "
            "--checkpoint out, or make a new index with another --out"
        )
    return model, before or new_version(folder, model, config, fingerprint, config.checkpoint)


def _source(config: IndexConfig) -> Source:
    """What is indexed; of data that a job makes itself, made later."""
    if config.videos:
        return find_source(config.videos, config.data)
    if config.data.source == "folder" and not config.data.root:
        raise UserError("videos is empty; give what is to be indexed: --videos FOLDER")
    return Source(data=config.data)


def _indexed(  # noqa: PLR0917
    folder: Path,
    config: IndexConfig,
    model: XPool,
    version: IndexVersion,
    source: Source,
    console: Console,
) -> IndexResult:
    output_dir = prepare_output_dir(config)
    os.chdir(output_dir)  # raylets of one machine replace each other's copy of a job's folder
    manifest, damaged = _manifest(source, config)
    with ray_session(), raised_as_user_error():
        check_cluster(config)
        if source.data is not None:
            config = replace(config, data=source.data)
            check_seen(config)
        if manifest is None:
            manifest = made_manifest(config, output_dir, console)
        manifest = with_identities(of_split(manifest, config.split))
        videos, bad = manifest, damaged
        if not source.store:
            videos, bad = _decoded(manifest, config, console)
        _report_bad(folder, bad, len(videos) + len(bad), config, console)
        index = _open(folder, version, model, config)
        rows = indexed_rows(videos)
        change = change_to(index.segments, rows, remove_missing=config.remove_missing)
        return _changed(folder, config, model, version, change, bad, console)


def _manifest(source: Source, config: IndexConfig) -> tuple[pa.Table | None, list[BadVideo]]:
    """The videos, None where the job makes its own; and what of a frame store is damaged."""
    if source.store:
        return stored_manifest(source.store, FrameSettings.of(config.data))
    if source.manifest is not None:
        return source.manifest, []
    assert source.data is not None
    return own_manifest(replace(config, data=source.data)), []


def _decoded(
    manifest: pa.Table, config: IndexConfig, console: Console
) -> tuple[pa.Table, list[BadVideo]]:
    check_storage({"data.frames_dir": frames_dir(config)})
    store = open_store(frames_dir(config), FrameSettings.of(config.data), config.name or "search")
    with console.stage("decoding") as stage:
        decoded = decode_manifest(manifest, config.data, store, stage)
    return decoded.videos, decoded.bad


def _report_bad(
    folder: Path, bad: list[BadVideo], num_videos: int, config: IndexConfig, console: Console
) -> None:
    path = _errors_path(folder)
    path.unlink(missing_ok=True)
    if not bad:
        return
    pq.write_table(errors_table(bad), path)
    if len(bad) == num_videos or len(bad) > config.data.max_bad_fraction * num_videos:
        raise UserError(
            f"{len(bad)} of {num_videos} videos cannot be decoded, more than the share "
            f"data.max_bad_fraction = {config.data.max_bad_fraction:g} allows:\n{bad_lines(bad)}\n"
            f"{path} has them all. Replace them or take them out"
        )
    console.line(f"left out {len(bad)} of {num_videos} videos:\n{bad_lines(bad)}")


def _changed(  # noqa: PLR0917
    folder: Path,
    config: IndexConfig,
    model: XPool,
    version: IndexVersion,
    change: Change,
    bad: list[BadVideo],
    console: Console,
) -> IndexResult:
    """Encode what is new, take out what is gone, and make both the index."""
    num_removed = sum(len(rows) for rows in change.removed.values())
    num_added = len(change.added)
    result = IndexResult(
        folder=folder,
        version=version,
        num_added=num_added,
        num_removed=num_removed,
        bad=bad,
        errors_path=_errors_path(folder),
    )
    if not (num_added or num_removed) and version.version and not config.queries:
        return result
    writer = IndexWriter(folder, version, model, two_stage_from=config.two_stage_from)
    added = []
    if num_added:
        with console.stage("encoding") as stage:
            added = writer.encode(
                change.added,
                model,
                config,
                thumbnail_side=config.thumbnail_side,
                videos_per_segment=config.videos_per_segment,
                stage=stage,
            )
    kept = [
        replace(s, removed=sorted({*s.removed, *change.removed.get(s.name, [])}))
        for s in version.segments
        if s.name not in {entry.name for entry in added}
    ]
    after = writer.next_version([*kept, *added])
    after = _with_recall(folder, after, model, config, console)
    return replace(result, version=write_version(folder, after))


def _tidied(folder: Path, config: IndexConfig, console: Console) -> IndexResult:
    """Take videos out by their ids, or write the segments anew without what was taken out."""
    version = read_version(folder)
    model, trained = load_indexed_model(folder / MODELS / version.model, version.fingerprint)
    config = with_settings_of(config, trained)
    index = _open(folder, version, model, config)
    if config.remove:
        change = removal_of(index.segments, config.remove)
        result = _changed(folder, config, model, version, change, [], console)
    else:
        writer = IndexWriter(folder, version, model, two_stage_from=config.two_stage_from)
        segments = writer.compacted(index.segments, config.videos_per_segment)
        after = _with_recall(folder, writer.next_version(segments), model, config, console)
        result = _unchanged(folder, write_version(folder, after))
    remove_unnamed(folder)
    return result


def _with_recall(
    folder: Path, version: IndexVersion, model: XPool, config: IndexConfig, console: Console
) -> IndexVersion:
    """The index with the recall of two stages, where it has two and there are queries."""
    index = _open(folder, version, model, config)
    if not index.has_two_stages:
        return replace(version, recall=None)
    if config.queries:
        texts = read_queries(Path(config.queries))
        encoder = VideoEncoder(model, config, torch.device("cpu"), 0)
        embeds, whose = encoder.text_embeds(texts), f"sentences of {Path(config.queries).name}"
    else:
        embeds, whose = caption_queries(index), "captions of the index"
    if not len(embeds):
        console.line(
            "the index has no captions to measure the recall of two stages with, so search is "
            "exhaustive unless --method says otherwise; --queries FILE gives sentences"
        )
        return replace(version, recall=None)
    with console.stage("measuring recall") as stage:
        stage(0, len(embeds), "queries")
        recall = measure_recall(index, embeds, whose)
        stage(len(embeds), len(embeds), "queries")
    console.line(
        f"two stages find {100 * recall.at_10:.1f} % of the ten best videos of "
        f"{recall.num_queries} {whose}"
    )
    return replace(version, recall=recall)


def _open(folder: Path, version: IndexVersion, model: XPool, config: IndexConfig) -> SearchIndex:
    threads = max(1, int(config.train.num_workers * config.train.cpus_per_worker))
    return SearchIndex(folder, version, model.pooling, num_threads=threads)


def _unchanged(folder: Path, version: IndexVersion) -> IndexResult:
    return IndexResult(
        folder=folder,
        version=version,
        num_added=0,
        num_removed=0,
        bad=[],
        errors_path=_errors_path(folder),
    )


def _errors_path(folder: Path) -> Path:
    return folder / ERRORS
