"""Search in an index against scores of the same terms, all of them, sorted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from made_index import write_index
from xpool.pooling import CrossAttentionPooling, MeanPooling, SoftmaxPooling, TopKPooling
from xpool.scoring import attention_weights, score_matrix, video_terms
from xpool_platform.errors import UserError
from xpool_platform.search import first_stage, search_index, segment_writer
from xpool_platform.search.encode_videos import mean_embeds
from xpool_platform.search.index_files import Recall, write_version
from xpool_platform.search.recall import caption_queries, measure_recall
from xpool_platform.search.search_index import SearchIndex, open_index
from xpool_platform.search.segment_files import TERMS

WIDTH, NUM_FRAMES, NUM_VIDEOS = 24, 6, 230


def attention(num_heads, width=WIDTH, strength=0.3):
    """A pooling far from the identity."""
    torch.manual_seed(num_heads)
    pooling = CrossAttentionPooling(width, num_heads).eval()
    for parameter in pooling.parameters():
        parameter.data += strength * torch.randn_like(parameter)
    return pooling


POOLINGS = {
    "1 head": attention(1),
    "4 heads": attention(4),
    "mean": MeanPooling(),
    "topk": TopKPooling(3),
    "softmax": SoftmaxPooling(0.1),
}
EACH = pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)


def drawn(num_videos=NUM_VIDEOS, num_texts=5):
    torch.manual_seed(0)
    return torch.randn(num_videos, NUM_FRAMES, WIDTH), torch.randn(num_texts, WIDTH)


@pytest.fixture(autouse=True)
def short_batches(monkeypatch):
    monkeypatch.setattr(segment_writer, "ROWS_PER_BATCH", 40)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices this small are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(folder, pooling, frames, **how):
    how = {"per_segment": 100, "per_share": 20} | how
    return write_index(folder, pooling, frames, **how)


def number_of(index, hit):
    return int(index.record((hit.segment, hit.row))["video_id"])


def found_in(index, hits):
    return [number_of(index, hit) for hit in hits]


def best_of(scores, k, gone=()):
    """Numbers of the k best, by a full sort."""
    order = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
    return [i for i in order if i not in set(gone)][:k]


def half_scores(pooling, texts, frames):
    return score_matrix(pooling, texts, video_terms(pooling, frames).to(torch.float16)).numpy()


def without(version, gone):
    """The index without these videos of the segments of 100."""
    return replace(
        version,
        segments=[
            replace(entry, removed=[i - 100 * n for i in sorted(gone) if i // 100 == n])
            for n, entry in enumerate(version.segments)
        ],
    )


@EACH
@pytest.mark.parametrize("scan_from", [0, 10**9], ids=["scanned", "by the matrix"])
@pytest.mark.parametrize("num_texts", [2, 5])
def test_the_best_are_those_of_all_scores_sorted(
    tmp_path, monkeypatch, pooling, scan_from, num_texts
):
    monkeypatch.setattr(search_index, "SCAN_FROM", scan_from)
    frames, texts = drawn(num_texts=num_texts)
    version = made(tmp_path, pooling, frames)
    index = SearchIndex(tmp_path, version, pooling, num_threads=2)
    assert [s.num_batches for s in index.segments] == [3, 3, 1]
    expected = half_scores(pooling, texts, frames)
    gone = {*best_of(expected[0], 2), 0, 99, 100, 229}
    for k in (1, 10, 1000):
        for removed in ((), gone):
            index = SearchIndex(tmp_path, without(version, removed), pooling)
            for hits, scores in zip(index.search(texts, k), expected, strict=True):
                assert len(hits) == min(k, NUM_VIDEOS - len(removed))
                ids = found_in(index, hits)
                found = np.array([hit.score for hit in hits])
                np.testing.assert_allclose(found, scores[ids], atol=2e-6)
                assert (np.diff(found) <= 0).all()
                best = best_of(scores, k, removed)
                np.testing.assert_allclose(found, scores[best], atol=2e-6)
                assert not set(ids) & set(removed)
                assert len(set(ids)) == len(ids)


@EACH
def test_shards_together_are_the_whole(tmp_path, pooling):
    frames, texts = drawn()
    captions = [[f"caption of {i}"] for i in range(NUM_VIDEOS)]
    version = made(
        tmp_path, pooling, frames, captions=captions, caption_embeds=torch.randn(NUM_VIDEOS, WIDTH)
    )
    whole = SearchIndex(tmp_path, version, pooling)
    shards = [SearchIndex(tmp_path, version, pooling, shard=(i, 3)) for i in range(3)]

    def merged(answers):
        return sorted(
            (hit for hits in answers for hit in hits), key=lambda h: (-h.score, h.segment, h.row)
        )

    every = [shard.search(texts, 1000) for shard in shards]
    assert all(0 < len(hits) < NUM_VIDEOS for hits, *_ in every)
    for text in range(len(texts)):
        assert merged(hits[text] for hits in every) == whole.search(texts, 1000)[text]
        some = [shard.search(texts, 7)[text] for shard in shards]
        assert merged(some)[:7] == whole.search(texts, 7)[text]
    embed = torch.randn(WIDTH)
    assert merged(s.similar(embed, 9) for s in shards)[:9] == whole.similar(embed, 9)
    terms = whole.terms_of([(1, 5)])
    assert merged(s.captions_for(terms, 9) for s in shards)[:9] == whole.captions_for(terms, 9)
    for shard in shards:  # by its id every shard knows every video
        assert shard.find("137") == (1, 37)


@pytest.mark.parametrize("pooling", [POOLINGS["1 head"], POOLINGS["mean"]], ids=["1 head", "mean"])
@pytest.mark.parametrize("scan_from", [0, 10**9])
def test_of_equal_scores_those_that_come_first_in_the_index_are_found(
    tmp_path, monkeypatch, pooling, scan_from
):
    monkeypatch.setattr(search_index, "SCAN_FROM", scan_from)
    frames, texts = drawn()
    frames[20:] = frames[20]  # two hundred copies of a video
    texts = frames[20, :1].clone()
    version = made(tmp_path, pooling, frames)
    index = SearchIndex(tmp_path, without(version, {21}), pooling)
    hits = index.search(texts, NUM_VIDEOS)[0]
    copies = [hit for hit in hits if number_of(index, hit) >= 20]
    if len({hit.score for hit in copies}) > 1:
        pytest.skip("this machine's matrix product differs with the place in the matrix")
    ids = found_in(index, copies)
    assert ids == sorted(ids)
    better = [number_of(index, hit) for hit in hits if hit.score > copies[0].score]
    for k in (1, 2, 5, 39, 40, 41, 100, 150):
        expected = [*better, 20, *range(22, NUM_VIDEOS)][:k]
        assert found_in(index, index.search(texts, k)[0]) == expected
    embed = index.mean_embed((0, 20))
    first = found_in(index, index.similar(embed, 12))
    assert first == [20, *range(22, 33)]


def test_an_index_of_nothing_has_no_answer(tmp_path):
    frames, texts = drawn()
    pooling = POOLINGS["1 head"]
    version = without(made(tmp_path, pooling, frames), set(range(NUM_VIDEOS)))
    for gone in (version, replace(version, segments=[])):
        index = SearchIndex(tmp_path, gone, pooling)
        assert index.search(texts, 10) == [[]] * len(texts)
        assert index.similar(texts[0], 10) == []
        assert index.captions_for(video_terms(pooling, frames[:1]), 10) == []
        assert index.find("0") is None
        assert list(index.captions()) == []
        assert index.attention(texts[0], []).shape == (0, NUM_FRAMES)


@EACH
def test_attention_and_a_single_score_are_those_of_the_terms(tmp_path, pooling):
    frames, texts = drawn()
    index = SearchIndex(tmp_path, made(tmp_path, pooling, frames), pooling)
    numbers = [229, 0, 137, 0]
    places = [index.find(str(number)) for number in numbers]
    assert places == [(2, 29), (0, 0), (1, 37), (0, 0)]
    terms = video_terms(pooling, frames).to(torch.float16)
    for t, text in enumerate(texts):
        pairs = torch.tensor([[t, number] for number in numbers])
        expected = attention_weights(pooling, texts, terms, pairs).numpy()
        found = index.attention(text, places)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-3)
        scores = half_scores(pooling, texts, frames)[t, numbers]
        own = [index.score(text, place) for place in places]
        np.testing.assert_allclose(own, scores, atol=2e-6)


def test_similar_videos_are_those_of_the_largest_cosine(tmp_path):
    frames, _ = drawn()
    pooling = POOLINGS["4 heads"]
    version = without(made(tmp_path, pooling, frames), {3, 150})
    index = SearchIndex(tmp_path, version, pooling)
    means = mean_embeds(frames).half().float()
    for number in (0, 137, 229):
        mean = index.mean_embed(index.find(str(number)))
        assert torch.equal(mean, means[number])
        scores = means @ F.normalize(mean, dim=0)
        hits = index.similar(3 * mean, 12)  # of any length
        assert found_in(index, hits) == best_of(scores, 12, {3, 150})
        assert number_of(index, hits[0]) == number
        np.testing.assert_allclose(
            [hit.score for hit in hits], scores[found_in(index, hits)], atol=2e-6
        )


@EACH
def test_captions_for_a_video_are_those_of_the_best_scores(tmp_path, pooling):
    frames, _ = drawn()
    captions = [[f"{i}.{j}" for j in range(i % 4)] for i in range(NUM_VIDEOS)]
    embeds = torch.randn(sum(map(len, captions)), WIDTH)
    version = made(tmp_path, pooling, frames, captions=captions, caption_embeds=embeds)
    texts = [text for own in captions for text in own]
    gone = {2, 3, 103, 229}
    for removed in ((), gone):
        index = SearchIndex(tmp_path, without(version, removed), pooling)
        terms = index.terms_of([(1, 41)])
        scores = half_scores(pooling, embeds.half().float(), frames[141:142])[:, 0]
        there = [i for i, text in enumerate(texts) if int(text.split(".")[0]) not in set(removed)]
        expected = [texts[i] for i in sorted(there, key=lambda i: -scores[i])[:30]]
        hits = index.captions_for(terms, 30)
        found = [index.record((hit.segment, hit.row))["captions"][hit.position] for hit in hits]
        assert found == expected
        by_text = dict(zip(texts, scores, strict=True))
        np.testing.assert_allclose(
            [hit.score for hit in hits], [by_text[text] for text in found], atol=2e-6
        )
        assert [text for text, _ in index.captions()] == [texts[i] for i in there]
        kept = torch.stack([embed for _, embed in index.captions()])
        assert torch.equal(kept, embeds[there].half().float())


def clustered(num_videos, width=48, num_frames=6, num_queries=60):
    """Videos of a few scenes that lie in topics, and queries near to a scene of one of them."""
    torch.manual_seed(3)
    topics = torch.randn(40, width)
    scenes = topics[torch.arange(num_videos) % 40, None] + 0.8 * torch.randn(num_videos, 2, width)
    frames = scenes.repeat_interleave(num_frames // 2, dim=1)
    frames = frames + 0.25 * torch.randn_like(frames)
    chosen = torch.randperm(num_videos)[:num_queries]
    return frames, scenes[chosen, 0] + 0.6 * torch.randn(num_queries, width)


TWO_STAGE = {
    "1 head": attention(1, 48, 0.02),
    "4 heads": attention(4, 48, 0.02),
    "mean": MeanPooling(),
    "topk": TopKPooling(3),
    "softmax": SoftmaxPooling(0.1),
}


@pytest.mark.parametrize("pooling", TWO_STAGE.values(), ids=TWO_STAGE)
def test_two_stages_find_nearly_all_with_exact_scores(tmp_path, monkeypatch, pooling):
    monkeypatch.setattr(segment_writer, "ROWS_PER_BATCH", 500)
    monkeypatch.setattr(first_stage, "FRAMES_PER_QUERY", 1000)
    frames, texts = clustered(3000)
    # the last segment is too small for candidates: all of it is looked at
    version = made(tmp_path, pooling, frames, per_segment=1400, per_share=250, two_stage_from=1000)
    assert [bool(entry.first_stage) for entry in version.segments] == [True, True, False]
    assert len({entry.first_stage for entry in version.segments[:2]}) == 1
    gone = [{5, 7, 1399}, {0}, {199}]
    removed = [
        replace(entry, removed=sorted(own))
        for entry, own in zip(version.segments, gone, strict=True)
    ]
    version = replace(version, segments=removed)
    index = SearchIndex(tmp_path, version, pooling)
    exact, found = (index.search(texts, 10, how) for how in ("exhaustive", "two-stage"))
    every = index.search(texts, 3000, "exhaustive")
    shares = []
    for best, own, scores in zip(exact, found, every, strict=True):
        score_of = {(hit.segment, hit.row): hit.score for hit in scores}
        places = [(hit.segment, hit.row) for hit in own]
        assert len(set(places)) == 10
        assert not any(row in gone[number] for number, row in places)
        np.testing.assert_allclose(
            [hit.score for hit in own], [score_of[place] for place in places], rtol=0, atol=2e-6
        )
        shares.append(len({(h.segment, h.row) for h in best} & set(places)) / 10)
    assert np.mean(shares) >= 0.95
    stage = index._stages[version.segments[0].first_stage]
    probes = index._scorer.probes(index._scorer.text_terms(texts))
    per_video = index._lists[0].ntotal // 1400
    seen = [len(rows) for rows in stage.candidates(index._lists[0], probes, per_video)]
    assert max(seen) < 1400  # and looked at some only
    measured = measure_recall(index, texts, "the test")
    assert measured.at_10 == pytest.approx(np.mean(shares))
    assert (measured.num_queries, measured.num_videos) == (60, 2995)
    merged = [SearchIndex(tmp_path, version, pooling, shard=(i, 2)) for i in range(2)]
    parts = [each.search(texts, 10, "two-stage") for each in merged]
    for text, own in enumerate(found):
        together = sorted(
            (hit for part in parts for hit in part[text]),
            key=lambda h: (-h.score, h.segment, h.row),
        )
        assert together[:10] == own


@pytest.mark.parametrize("num_repeats", [1, 12], ids=["short", "long"])
@pytest.mark.parametrize("share_removed", [0, 5 / 6])
def test_two_stages_give_as_many_as_were_asked_for(
    tmp_path, monkeypatch, num_repeats, share_removed
):
    monkeypatch.setattr(segment_writer, "ROWS_PER_BATCH", 500)
    monkeypatch.setattr(first_stage, "FRAMES_PER_QUERY", 500)
    pooling = TWO_STAGE["softmax"]
    frames, texts = clustered(1200, num_queries=5)
    frames = frames.repeat_interleave(num_repeats, dim=1)
    version = made(tmp_path, pooling, frames, per_segment=1200, two_stage_from=1000)
    gone = list(range(round(1200 * share_removed)))
    entries = [replace(entry, removed=gone) for entry in version.segments]
    version = replace(version, segments=entries)
    index = SearchIndex(tmp_path, version, pooling)
    shards = [SearchIndex(tmp_path, version, pooling, shard=(i, 2)) for i in range(2)]
    for k in (10, 100, 300):
        found = index.search(texts, k, "two-stage")
        assert [len(hits) for hits in found] == [min(k, 1200 - len(gone))] * len(texts)
        parts = [shard.search(texts, k, "two-stage") for shard in shards]
        for text, hits in enumerate(found):
            together = [hit for part in parts for hit in part[text]]
            assert sorted(together, key=lambda h: (-h.score, h.segment, h.row))[:k] == hits


def test_auto_takes_two_stages_only_where_they_find_nearly_all(tmp_path):
    pooling = MeanPooling()
    frames, texts = clustered(1200)
    version = made(tmp_path / "two", pooling, frames, per_segment=1200, two_stage_from=1000)

    def with_recall(at_10):
        recall = Recall(at_10=at_10, num_queries=9, whose="the test", num_videos=1200)
        return SearchIndex(tmp_path / "two", replace(version, recall=recall), pooling)

    for at_10, expected in ((1.0, "two-stage"), (0.99, "two-stage"), (0.9899, "exhaustive")):
        index = with_recall(at_10)
        assert index.method_for("auto") == expected
        assert index.search(texts, 5) == index.search(texts, 5, expected)
        assert index.method_for("exhaustive") == "exhaustive"
        assert index.method_for("two-stage") == "two-stage"
    unmeasured = SearchIndex(tmp_path / "two", version, pooling)
    assert unmeasured.method_for("auto") == "exhaustive"
    small = made(tmp_path / "one", pooling, frames, per_segment=1200)
    recall = Recall(at_10=1.0, num_queries=9, whose="the test", num_videos=1200)
    index = SearchIndex(tmp_path / "one", replace(small, recall=recall), pooling)
    assert not index.has_two_stages
    assert index.method_for("auto") == "exhaustive"
    with pytest.raises(UserError, match="method two-stage needs a first stage, and the index has"):
        index.search(texts, 5, "two-stage")


def test_recall_is_the_share_of_the_ten_best(tmp_path, monkeypatch):
    """Of twenty videos of one frame, the first stage is shown half."""
    pooling = MeanPooling()
    angles = torch.linspace(0, 1.5, 20)
    frames = torch.stack([angles.cos(), angles.sin()], dim=1)[:, None]
    version = made(tmp_path, pooling, frames, per_segment=20, two_stage_from=1)
    index = SearchIndex(tmp_path, version, pooling)
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # the best of them are the first, and the last

    def shown(_stage, _lists, probes, _num_vectors):
        assert len(probes) == 2
        return [np.array([*range(4), *range(14, 20)]), np.array([3, *range(11, 20)])]

    monkeypatch.setattr(first_stage.FirstStage, "candidates", shown)
    recall = measure_recall(index, texts, "by hand")
    assert recall == Recall(at_10=(0.4 + 0.9) / 2, num_queries=2, whose="by hand", num_videos=20)


def test_queries_are_captions_spread_over_the_index(tmp_path):
    frames, _ = drawn()
    captions = [[f"{i}.{j}" for j in range(2)] for i in range(NUM_VIDEOS)]
    embeds = torch.randn(2 * NUM_VIDEOS, WIDTH)
    pooling = MeanPooling()
    version = made(tmp_path, pooling, frames, captions=captions, caption_embeds=embeds)
    queries = caption_queries(SearchIndex(tmp_path, version, pooling))
    assert torch.equal(queries, embeds[0:400:2].half().float())
    version = without(version, {0, 1})
    queries = caption_queries(SearchIndex(tmp_path, version, pooling))
    assert torch.equal(queries, embeds[4:404:2].half().float())
    version = made(tmp_path / "none", pooling, frames)
    assert caption_queries(SearchIndex(tmp_path / "none", version, pooling)).shape == (0, WIDTH)


@EACH
def test_float16_terms_score_nearly_as_the_model_does(tmp_path, pooling):
    frames, texts = drawn()
    index = SearchIndex(tmp_path, made(tmp_path, pooling, frames), pooling)
    exact = score_matrix(pooling, texts, frames).numpy()
    for hits, scores in zip(index.search(texts, NUM_VIDEOS), exact, strict=True):
        found = np.array([hit.score for hit in hits])
        np.testing.assert_allclose(found, scores[found_in(index, hits)], rtol=0, atol=3e-3)


@EACH
def test_what_is_clear_cut_is_found_first_as_by_the_model(tmp_path, pooling):
    frames, _ = drawn(num_videos=60)
    frames = frames[:, :1] + 0.1 * frames
    # texts that the model itself gives the right video, by a margin above float16's error
    texts = frames.mean(dim=1)
    exact = score_matrix(pooling, texts, frames)
    first = exact.topk(2, dim=1)
    is_clear = first.values[:, 0] - first.values[:, 1] > 0.01
    assert is_clear.sum() >= 20
    index = SearchIndex(tmp_path, made(tmp_path, pooling, frames), pooling)
    found = [number_of(index, hits[0]) for hits in index.search(texts, 1)]
    assert torch.equal(torch.tensor(found)[is_clear], first.indices[is_clear, 0])


def test_more_threads_than_cpus_are_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(search_index, "SCAN_FROM", 0)
    frames, texts = drawn()
    pooling = POOLINGS["4 heads"]
    version = made(tmp_path, pooling, frames)
    one, many = (SearchIndex(tmp_path, version, pooling, num_threads=n) for n in (1, 1000))
    assert many.search(texts[:1], 10) == one.search(texts[:1], 10)


def test_a_cut_segment_is_not_opened(tmp_path):
    frames, _ = drawn()
    pooling = POOLINGS["mean"]
    version = made(tmp_path, pooling, frames)
    assert open_index(tmp_path, pooling).version == version
    path = tmp_path / "segments" / version.segments[1].name / TERMS
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"terms\.arrow has \d+ of its \d+ bytes"):
        open_index(tmp_path, pooling)


def test_a_version_that_is_gone_as_it_is_opened_is_not_an_error(tmp_path, monkeypatch):
    frames, _ = drawn()
    pooling = POOLINGS["mean"]
    version = made(tmp_path, pooling, frames)
    gone = replace(version, version=0, segments=[replace(version.segments[0], name="gone")])
    write_version(tmp_path, gone)
    read = search_index.read_version

    def read_then_replaced(folder):
        before = read(folder)
        write_version(folder, version)  # another job's, just then
        return before

    monkeypatch.setattr(search_index, "read_version", read_then_replaced)
    assert open_index(tmp_path, pooling).version.version == 1
