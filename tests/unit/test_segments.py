"""Segments: what is written comes back bit for bit, and moves to other segments as it is."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import torch

from made_index import encoded_videos, index_of_nothing, index_writer, row_of
from xpool.pooling import CrossAttentionPooling
from xpool.scoring import video_terms
from xpool_platform.errors import UserError
from xpool_platform.search import segment_writer
from xpool_platform.search.changes import change_to, removal_of
from xpool_platform.search.encode_videos import mean_embeds
from xpool_platform.search.index_files import (
    ENTRY,
    SEGMENTS,
    check_hashes,
    parse_segment,
    write_version,
)
from xpool_platform.search.search_index import SearchIndex
from xpool_platform.search.segment import Segment
from xpool_platform.search.segment_files import CAPTIONS, TERMS, THUMBNAILS, VIDEOS

WIDTH, NUM_FRAMES = 24, 6
CAPTIONS_OF = [
    ["a dog", "ein Hund läuft"],
    [],
    ["犬"],
    ["\U0001f415 barks", "b", "c"],
    [],
    ["last"],
]
IDS = ["a.mp4", "b c/d é.mp4", "犬.mp4", "d", "e", "f"]


def pooling_of(num_heads):
    torch.manual_seed(num_heads)
    pooling = CrossAttentionPooling(WIDTH, num_heads).eval()
    for parameter in pooling.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return pooling


POOLING = pooling_of(2)


def some_shares(*, captions=CAPTIONS_OF, has_thumbnails=True):
    """The six videos in shares of 1, 3 and 2, with their frames and the captions' embeddings."""
    torch.manual_seed(0)
    frames = torch.randn(6, NUM_FRAMES, WIDTH)
    embeds = torch.randn(sum(map(len, captions)), WIDTH)
    ends = np.cumsum([0, *map(len, captions)])
    thumbnails = [[f"jpeg {i} {j}".encode() for j in range(NUM_FRAMES)] for i in range(6)]
    return (
        frames,
        embeds,
        [
            encoded_videos(
                POOLING,
                frames[a:b],
                IDS[a:b],
                captions=captions[a:b],
                caption_embeds=embeds[ends[a] : ends[b]],
                thumbnails=thumbnails[a:b] if has_thumbnails else None,
            )
            for a, b in ((0, 1), (1, 4), (4, 6))
        ],
    )


@pytest.fixture(params=[2, 4096], ids=["several batches", "one batch"])
def written(tmp_path, monkeypatch, request):
    monkeypatch.setattr(segment_writer, "ROWS_PER_BATCH", request.param)
    frames, embeds, shares = some_shares()
    writer = index_writer(tmp_path, POOLING, index_of_nothing(POOLING))
    entry = writer.write("s", shares, num_videos=6)
    return Segment(tmp_path / SEGMENTS / "s", entry), frames, embeds


def test_terms_and_means_come_back_bit_for_bit(written):
    segment, frames, _ = written
    num_batches = segment.num_batches
    assert segment.starts.tolist() in ([0, 4, 6], [0, 6])
    terms = video_terms(POOLING, frames).to(torch.float16)
    found = [segment.batch(i) for i in range(num_batches)]
    for name, tensor in terms.tensors.items():
        assert torch.equal(torch.cat([each.tensors[name] for each in found]), tensor)
    assert set(found[0].tensors) == set(terms.tensors)
    means = torch.cat([segment.mean_embeds(i) for i in range(num_batches)])
    assert torch.equal(means, mean_embeds(frames).half())
    rows = np.array([5, 0, 4, 4])
    for name, tensor in segment.terms_of(rows).tensors.items():
        assert torch.equal(tensor, terms.tensors[name][rows])


def test_columns_come_back(written):
    segment, _, _ = written
    rows = [row_of(i, c, NUM_FRAMES) for i, c in zip(IDS, CAPTIONS_OF, strict=True)]
    assert segment.videos.to_pylist() == rows
    assert (segment.entry.num_videos, segment.entry.num_captions) == (6, 7)
    assert segment.entry.num_present == 6


def test_captions_come_back_with_the_places_of_their_videos(written):
    segment, _, embeds = written
    found = list(segment.captions())
    assert np.concatenate([rows for rows, _ in found]).tolist() == [0, 0, 2, 3, 3, 3, 5]
    assert torch.equal(torch.cat([own for _, own in found]), embeds.half())
    places = [segment.caption_place(i) for i in range(7)]
    assert places == [(0, 0), (0, 1), (2, 0), (3, 0), (3, 1), (3, 2), (5, 0)]
    assert [CAPTIONS_OF[row][i] for row, i in places] == list(chain(*CAPTIONS_OF))


def test_thumbnails_come_back(written):
    segment, _, _ = written
    assert segment.has_thumbnails
    for row in range(6):
        assert segment.thumbnail(row, 3) == f"jpeg {row} 3".encode()
    for row, position in ((0, NUM_FRAMES), (0, -1), (6, 0)):
        assert segment.thumbnail(row, position) is None


def test_rows_are_found_by_id(written):
    segment, _, _ = written
    assert [segment.rows_of(video_id) for video_id in IDS] == [[i] for i in range(6)]
    assert segment.rows_of("nobody") == segment.rows_of("") == []


def test_the_entry_says_what_was_written(written, tmp_path):
    segment, _, _ = written
    assert parse_segment((segment.folder / ENTRY).read_bytes()) == segment.entry
    assert set(segment.entry.files) == {TERMS, VIDEOS, CAPTIONS, THUMBNAILS}
    version = replace(index_of_nothing(POOLING), segments=[segment.entry])
    sizes = sum((segment.folder / name).stat().st_size for name in segment.entry.files)
    assert check_hashes(tmp_path, version) == sizes


@pytest.mark.parametrize("rows", [[0, 3, 5], [3, 5, 0], [1, 4], [4], [0, 1, 2, 3, 4, 5], [3, 3]])
def test_rows_are_encoded_again_as_they_were(written, rows):
    segment, frames, embeds = written
    again = segment.encoded(np.array(rows))
    terms = video_terms(POOLING, frames).to(torch.float16)
    assert [row["video_id"] for row in again.rows] == [IDS[row] for row in rows]
    for name, tensor in terms.tensors.items():
        assert torch.equal(again.terms.tensors[name], tensor[rows])
    assert torch.equal(again.mean_embeds, mean_embeds(frames)[rows].half())
    of_row = [0, 0, 2, 3, 3, 3, 5]
    own = [i for row in rows for i in range(7) if of_row[i] == row]
    assert again.caption_embeds.dtype == np.float16
    np.testing.assert_array_equal(again.caption_embeds, embeds[own].half().numpy())
    assert again.thumbnails == [
        [f"jpeg {row} {j}".encode() for j in range(NUM_FRAMES)] for row in rows
    ]


def test_no_captions_and_no_thumbnails(tmp_path):
    none = [[]] * 6
    _, _, shares = some_shares(captions=none, has_thumbnails=False)
    writer = index_writer(tmp_path, POOLING, index_of_nothing(POOLING))
    entry = writer.write("s", shares, num_videos=6)
    segment = Segment(tmp_path / SEGMENTS / "s", entry)
    assert list(segment.captions()) == []
    assert not segment.has_thumbnails
    assert segment.thumbnail(0, 0) is None
    again = segment.encoded(np.array([2, 4]))
    assert again.caption_embeds.shape == (0, WIDTH)
    assert again.thumbnails == [[], []]
    assert entry.num_captions == 0


def test_what_a_killed_job_left_does_not_disturb(tmp_path):
    part = tmp_path / SEGMENTS / "s.part"
    part.mkdir(parents=True)
    (part / TERMS).write_bytes(b"ARROW1 and no more")
    (part / "stray").touch()
    (tmp_path / SEGMENTS / "s").mkdir()  # and a folder that never became a segment
    (tmp_path / SEGMENTS / "s" / ENTRY).write_bytes(b"{")
    _, _, shares = some_shares()
    writer = index_writer(tmp_path, POOLING, index_of_nothing(POOLING))
    entry = writer.write("s", shares, num_videos=6)
    assert set(entry.files) == {TERMS, VIDEOS, CAPTIONS, THUMBNAILS}
    assert [path.name for path in (tmp_path / SEGMENTS).iterdir()] == ["s"]
    assert len(Segment(tmp_path / SEGMENTS / "s", entry).videos) == 6


def test_a_failure_halfway_leaves_no_segment(tmp_path):
    _, _, shares = some_shares()

    def broken():
        yield shares[0]
        raise OSError("the worker is gone")

    writer = index_writer(tmp_path, POOLING, index_of_nothing(POOLING))
    with pytest.raises(OSError, match="the worker is gone"):
        writer.write("s", broken(), num_videos=6)
    assert not (tmp_path / SEGMENTS / "s").exists()
    assert writer.write("s", shares, num_videos=6).num_videos == 6


@pytest.mark.parametrize("per_segment", [2, 100])
def test_a_compacted_index_answers_as_before(tmp_path, monkeypatch, per_segment):
    monkeypatch.setattr(segment_writer, "ROWS_PER_BATCH", 2)
    monkeypatch.setattr("xpool_platform.search.index_writer.ROWS_COPIED", 3)
    _, embeds, shares = some_shares()
    version = index_of_nothing(POOLING)
    writer = index_writer(tmp_path, POOLING, version)
    first = writer.write("first", shares[:2], num_videos=4)
    second = writer.write("second", shares[2:], num_videos=2)
    entries = [replace(first, removed=[0, 2]), second]
    before = write_version(tmp_path, writer.next_version(entries))
    old = SearchIndex(tmp_path, before, POOLING)
    new_entries = index_writer(tmp_path, POOLING, before).compacted(old.segments, per_segment)
    assert len(new_entries) == (2 if per_segment == 2 else 1)
    after = writer.next_version(new_entries)
    assert all(entry.removed == [] for entry in after.segments)
    new = SearchIndex(tmp_path, after, POOLING)
    assert after.num_videos == before.num_videos == 4

    def named(index, hits):
        return [(index.record((hit.segment, hit.row))["video_id"], hit.score) for hit in hits]

    texts = torch.randn(3, WIDTH)
    for own, others in zip(old.search(texts, 6), new.search(texts, 6), strict=True):
        assert len(own) == 4
        assert [v for v, _ in named(old, own)] == [v for v, _ in named(new, others)]
        np.testing.assert_allclose(
            [s for _, s in named(old, own)], [s for _, s in named(new, others)], atol=2e-6
        )
    kept = [text for row in (1, 3, 4, 5) for text in CAPTIONS_OF[row]]
    assert [text for text, _ in new.captions()] == [text for text, _ in old.captions()] == kept
    own_embeds = torch.stack([embed for _, embed in new.captions()])
    assert torch.equal(own_embeds, embeds[[3, 4, 5, 6]].half().float())
    for video_id in ("a.mp4", "犬.mp4"):
        assert new.find(video_id) is None
    segment, row = new.find("d")
    assert new.segments[segment].thumbnail(row, 2) == b"jpeg 3 2"
    # asked again, what is finished is taken as it is
    assert index_writer(tmp_path, POOLING, before).compacted(old.segments, per_segment) == (
        new_entries
    )


def test_a_segment_without_a_video_left_is_not_named(tmp_path):
    _, _, shares = some_shares()
    writer = index_writer(tmp_path, POOLING, index_of_nothing(POOLING))
    entries = [writer.write(str(i), [share], num_videos=9) for i, share in enumerate(shares)]
    gone = replace(entries[1], removed=[0, 1, 2])
    after = writer.next_version([entries[0], gone, entries[2]])
    assert [entry.name for entry in after.segments] == ["0", "2"]
    assert after.version == 1


def test_changes_are_what_differs(tmp_path):
    _, _, shares = some_shares()
    writer = index_writer(tmp_path, POOLING, index_of_nothing(POOLING))
    first = replace(writer.write("x", shares[:2], num_videos=4), removed=[0])
    second = writer.write("y", shares[2:], num_videos=2)
    index = SearchIndex(tmp_path, writer.next_version([first, second]), POOLING)

    wanted = pa.Table.from_pylist(
        [
            row_of("a.mp4"),  # was taken out, is there again
            row_of("b c/d é.mp4"),  # is as it was
            {**row_of("e"), "identity": "another"},  # has changed
            row_of("new"),
        ]
    )
    change = change_to(index.segments, wanted, remove_missing=False)
    assert change.added["video_id"].to_pylist() == ["a.mp4", "e", "new"]
    assert change.removed == {"y": [0]}
    change = change_to(index.segments, wanted, remove_missing=True)
    assert change.removed == {"x": [2, 3], "y": [0, 1]}
    assert change_to(index.segments, wanted[:0], remove_missing=False).removed == {}
    change = removal_of(index.segments, ["f", "d", "f"])
    assert (change.removed, len(change.added)) == ({"x": [3], "y": [1]}, 0)


def test_what_is_to_be_removed_has_to_be_there(tmp_path):
    _, _, shares = some_shares()
    writer = index_writer(tmp_path, POOLING, index_of_nothing(POOLING))
    entry = replace(writer.write("x", shares, num_videos=6), removed=[0])
    index = SearchIndex(tmp_path, writer.next_version([entry]), POOLING)
    for ids in (["d", "a.mp4"], ["nobody"], [""]):
        with pytest.raises(
            UserError, match=r"remove: the index has no video .*nothing was changed"
        ):
            removal_of(index.segments, ids)


@pytest.mark.parametrize("is_killed_after", [0, 1])
def test_a_build_that_goes_on_has_one_first_stage(tmp_path, monkeypatch, is_killed_after):
    torch.manual_seed(0)
    frames = torch.randn(120, NUM_FRAMES, WIDTH)
    videos = pa.Table.from_pylist([row_of(str(i)) for i in range(120)])
    encoded = []

    def encode(_model, _config, part, _side):
        first = int(part["video_id"][0].as_py())
        encoded.append(first)
        if len(encoded) == is_killed_after + 1 and first == 60 * is_killed_after:
            raise KeyboardInterrupt
        yield encoded_videos(
            POOLING, frames[first : first + len(part)], part["video_id"].to_pylist()
        )

    monkeypatch.setattr("xpool_platform.search.index_writer.encoded_videos", encode)
    heard = []

    def build():
        writer = index_writer(tmp_path, POOLING, index_of_nothing(POOLING), two_stage_from=50)
        return writer.encode(
            videos,
            None,
            None,
            thumbnail_side=0,
            videos_per_segment=60,
            stage=lambda done, total, what: heard.append((done, total, what)),
        )

    with pytest.raises(KeyboardInterrupt):
        build()
    entries = build()
    assert encoded == ([0, 0, 60] if is_killed_after == 0 else [0, 60, 60])
    assert [entry.num_videos for entry in entries] == [60, 60]
    assert entries[0].first_stage
    assert entries[0].first_stage == entries[1].first_stage
    assert heard[-1] == (120, 120, "videos")
    writer = index_writer(tmp_path, POOLING, index_of_nothing(POOLING))
    index = SearchIndex(tmp_path, writer.next_version(entries), POOLING)
    every, found = (index.search(frames[:5, 0], 120, how) for how in ("exhaustive", "two-stage"))
    for hits, own in zip(every, found, strict=True):
        score_of = {(hit.segment, hit.row): hit.score for hit in hits}
        assert {hit.segment for hit in own[:20]} == {0, 1}
        np.testing.assert_allclose(
            [hit.score for hit in own], [score_of[hit.segment, hit.row] for hit in own], atol=2e-6
        )
