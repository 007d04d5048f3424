"""jobs/serve.py: a real service, asked as nobody should ask it."""

import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest
from served_search import Answer, Served, served_search
from starlette.testclient import TestClient
from tiny_index import add_to_index, some_videos
from tiny_model import tiny_checkpoint

from xpool_platform.search import segment_writer
from xpool_platform.search.config import ServiceConfig
from xpool_platform.search.index_files import INDEX, IndexVersion, read_version, write_version
from xpool_platform.search.searcher import Searcher
from xpool_platform.search.service import launch
from xpool_platform.search.service.api import MAX_QUERIES, ApiSettings, build_api
from xpool_platform.search.service.collection import REFRESH_S, Collection
from xpool_platform.search.service.doors import HEADERS, MAX_BODY_BYTES, host_of
from xpool_platform.search.service.measures import Measures

pytestmark = pytest.mark.ray

HOSTILE = "<img src=x onerror=alert(1)>"
ODD_IDS = (
    *("a b/ü 漢.mp4", "what? #1 & 100%.mp4", "../outside.mp4", "..", "%2e%2e%2f", "back\\slash"),
    *("//two", "?q=1", "a;b=c", HOSTILE),
)
IDS = ("plain.mp4", *ODD_IDS, "changed.mp4", "linked.mp4", "gone.mp4")
CAPTIONS = {"plain.mp4": ["a plain one", HOSTILE], "..": ["two points"]}
SENTENCES = ("a red circle", "nothing at all", "  with space around it ")
TOKEN = "a+token/of=the;tests&all%"


@dataclass(frozen=True, kw_only=True)
class Made:
    """An index of IDS, in several batches."""

    index: Path
    videos: dict[str, Path]
    checkpoint: str

    def searcher(self) -> Searcher:
        return Searcher(self.index, num_threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("served search")
    checkpoint = tiny_checkpoint(folder / "run")
    videos = some_videos(folder / "videos", IDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_writer, "ROWS_PER_BATCH", 3)
        add_to_index(folder / "index", checkpoint, videos, captions=CAPTIONS, batch_size=3)
    (folder / "secret.mp4").write_bytes(b"not in the index")
    return Made(index=folder / "index", videos=videos, checkpoint=checkpoint)


@pytest.fixture(scope="module")
def served(made) -> Iterator[Served]:
    with served_search(made.index, "--queries-per-minute", "100000") as running:
        yield running


@pytest.fixture(scope="module")
def guarded(made) -> Iterator[Served]:
    """With a token, a small rate, and two shards."""
    options = ("--num-shards", "2", "--num-replicas", "1", "--queries-per-minute", "20")
    with served_search(made.index, *options, XPOOL_SEARCH_TOKEN=TOKEN) as running:
        yield running


@pytest.fixture
def api(made) -> Iterator[TestClient]:
    """The API in this process, for all but /search, which waits for others within a replica."""
    yield from api_of(made)


def api_of(made: Made, *, token: str = "", per_minute: int = 1000) -> Iterator[TestClient]:
    measures = Measures("this one")
    collection = Collection(
        made.searcher(), [], batch_size=2, batch_wait_s=0, on_batch=measures.batch
    )
    settings = ApiSettings(
        token=token,
        hosts=() if token else ("testserver",),
        max_query_length=50,
        queries_per_minute=per_minute,
        method="auto",
        copies=made.index.with_name("copies"),
    )
    with TestClient(build_api(collection, measures, settings), follow_redirects=False) as client:
        yield client


def video_target(video_id: str) -> str:
    return f"/videos/{quote(video_id, safe='')}"


def assert_as(found: list[dict], expected: list) -> None:
    """That answers as JSON are those of a searcher, but for the last digits."""
    for answer, video in zip(found, expected, strict=True):
        wanted = video.model_dump()
        assert answer.keys() == wanted.keys()
        numbers = ("score", "weight", "moments", "frames")
        same = {key: value for key, value in wanted.items() if key not in numbers}
        assert {key: answer[key] for key in same} == same
        assert answer["score"] == pytest.approx(wanted["score"], abs=1e-5)
        for ours, theirs in zip(answer.get("frames", []), wanted.get("frames", []), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5) if ours["weight"] else ours == theirs
        weights = [moment["weight"] for moment in answer.get("moments", [])]
        assert weights == pytest.approx([m["weight"] for m in wanted.get("moments", [])], abs=1e-5)


def test_searches_answer_as_the_searcher_does(made, served):
    searcher = made.searcher()
    cleaned = [sentence.strip() for sentence in SENTENCES]
    expected = searcher.search(searcher.encode(cleaned), 4, "exhaustive")
    for sentence, its in zip(SENTENCES, expected, strict=True):
        answer = served.ask("/search", {"q": sentence, "k": 4})
        assert answer.status == 200, answer.body
        assert answer.json["num_videos"] == len(IDS)
        assert answer.json["method"] == "exhaustive"
        (found,) = answer.json["answers"]
        assert found["query"] == sentence.strip()
        assert_as(found["results"], its)
    many = served.post({"queries": list(SENTENCES), "k": 4, "method": "exhaustive"})
    assert [each["query"] for each in many.json["answers"]] == cleaned
    for each, its in zip(many.json["answers"], expected, strict=True):
        assert_as(each["results"], its)
    everything = served.ask("/search", {"q": "a"}).json["answers"][0]["results"]
    assert len(everything) == 10
    assert len(served.ask("/search", {"q": "a", "k": 100}).json["answers"][0]["results"]) == len(
        IDS
    )


def test_what_is_no_search_is_refused_with_a_reason(served):
    def get(query: str, status: int = 422) -> str:
        answer = served.ask(f"/search?{query}")
        assert answer.status == status, (query, answer.body)
        return str(answer.json["detail"])

    assert "Field required" in get("")
    for query in ("q=", "q=%20%09", "q=a&k=0", "q=a&k=101", "q=a&k=two", "q=a&k=1e1", "q=a&k="):
        get(query)
    assert "at most 500 characters" in get(f"q={'a' * 501}")
    assert "has a NUL character" in get("q=a%00b")
    assert "'auto', 'exhaustive' or 'two-stage'" in get("q=a&method=fast")
    assert "method two-stage needs a first stage" in get("q=a&method=two-stage")
    assert served.ask("/search?q=%ff%fe").status == 200  # no UTF-8: read as unknown characters

    def post(value: object, status: int = 422) -> str:
        answer = served.post(value)
        assert answer.status == status, (value, answer.body)
        return str(answer.json["detail"])

    assert "at most 32 items" in post({"queries": ["a"] * (MAX_QUERIES + 1)})
    for value in ({}, [], None, {"queries": []}, {"queries": [""]}, {"queries": [1]}, "a"):
        post(value)
    for value in ({"queries": ["a"], "k": 0}, {"queries": ["a"], "method": "x"}, {"queries": "a"}):
        post(value)
    post(b"no JSON")
    post(b'{"queries": ["half \\ud800"]}')
    post(b'{"queries": ["a"], "method": "\\udc00"}')
    post(b'{"queries": ["a"], "k": NaN}')
    post(b'{"queries": ["a"], "k": 1e999}')
    post(b'{"queries": ["a\\u0000b"]}')
    post(b"\xff\xfe{", 400)
    post(b"[" * 100_000, 400)
    post(b'{"queries": ["a"], "k": ' + b"9" * 5000 + b"}", 400)
    assert served.ask("/search", method="PUT").status == 405


def test_a_request_that_is_too_large_is_not_read(served):
    large = json.dumps({"queries": ["a" * 2**20]}).encode()
    assert "bytes; ask fewer queries" in served.post(large).json["detail"]
    assert served.post(large).status == 413
    headers = {"content-type": "application/json"}

    def in_pieces(content: bytes) -> Answer:
        pieces = iter(lambda: source.read(2**14), b"")
        source = io.BytesIO(content)
        return served.ask("/search", method="POST", body=pieces, headers=headers)

    assert in_pieces(json.dumps({"queries": ["a"]}).encode()).status == 200
    assert in_pieces(large).status in {413, 422}
    padded = json.dumps({"queries": ["a"]}).encode().ljust(MAX_BODY_BYTES + 1)
    assert in_pieces(padded).status in {200, 413}


def test_a_video_is_sent_whole_and_in_parts(made, served):
    content = made.videos["plain.mp4"].read_bytes()
    whole = served.ask("/videos/plain.mp4")
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"].startswith("inline")
    size = len(content)

    def part(header: str, status: int = 206, **others: str) -> Answer:
        answer = served.ask("/videos/plain.mp4", headers={"Range": header, **others})
        assert answer.status == status, (header, answer.status)
        return answer

    for header, expected in {
        "bytes=0-0": (0, 1),
        "bytes=0-99": (0, 100),
        "bytes=100-199": (100, 200),
        "bytes=-10": (size - 10, size),
        f"bytes={size - 1}-": (size - 1, size),
        f"bytes=5-{10 * size}": (5, size),
    }.items():
        answer = part(header)
        start, stop = expected
        assert answer.body == content[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    assert part(f"bytes={size}-", 416).headers["content-range"].endswith(f"*/{size}")
    several = part("bytes=0-1,10-19")
    assert content[10:20] in several.body
    for header in ("bytes=9-1", "bytes=-", "bytes=a-b", "lines=1-2"):
        answer = served.ask("/videos/plain.mp4", headers={"Range": header})
        assert answer.status in {200, 400, 416}, (header, answer.status)
    many = ",".join(f"{i}-{i}" for i in range(0, 2000, 2))
    assert served.ask("/videos/plain.mp4", headers={"Range": f"bytes={many}"}).status < 500

    unchanged = {"If-Range": whole.headers["etag"]}
    assert part("bytes=3-4", **unchanged).body == content[3:5]
    assert part("bytes=3-4", 200, **{"If-Range": '"another"'}).body == content


def test_every_id_leads_to_its_own_file(made, served):
    for video_id in IDS:
        for target in (video_target(video_id), f"/videos/{quote(video_id)}"):
            answer = served.ask(target)
            assert answer.status == 200, (video_id, answer.body)
            assert answer.body == made.videos[video_id].read_bytes()
        (found,) = [
            video
            for video in served.ask("/search", {"q": "a", "k": 100}).json["answers"][0]["results"]
            if video["video_id"] == video_id
        ]
        assert served.ask(found["video"]).body == made.videos[video_id].read_bytes()
        jpeg = served.ask(found["frames"][0]["thumbnail"])
        assert (jpeg.status, jpeg.headers["content-type"]) == (200, "image/jpeg")
        assert jpeg.body == made.searcher().thumbnail(video_id, 0)
        assert served.ask("/similar", {"video": video_id, "k": 2}).json["video_id"] == video_id


def test_nothing_but_videos_of_the_index_is_sent(made, served):
    secret = made.index.with_name("secret.mp4")
    outside = os.path.relpath(secret, made.videos["plain.mp4"].parent)
    for path in (
        *("", ".", "/", "plain.mp4/", "plain.mp4/..", "no such", "0.mp4", "PLAIN.MP4", "a" * 501),
        *(str(secret), str(made.videos["plain.mp4"]), outside, f"plain.mp4/../{outside}"),
        *("../../../etc/passwd", "....//....//etc/passwd", "..\\..\\etc\\passwd", "/etc/passwd"),
        *("plain.mp4\0", "\0", "..\0/etc/passwd", "file:///etc/passwd", "page.js", "~/x"),
        *("../page/index.html", "../index.json", "plain.mp4%00", "%2e%2e/%2e%2e/etc/passwd"),
    ):
        once = quote(path, safe="/")
        for spelt in (once, quote(path, safe=""), quote(once), quote(once, safe=""), f"/{once}"):
            for target in (f"/videos/{spelt}", f"/thumbnails/0/{spelt}"):
                answer = served.ask(target)
                assert answer.status in {404, 422}, (target, answer.status)
                assert "detail" in answer.json
    for raw in ("/videos/..%2f..%2fetc/passwd", "/videos/%c0%ae%c0%ae/x", "/videos/..\\x", "/../x"):
        assert served.ask(raw).status == 404, raw
    for position in ("-1", "12", "9999", "10000", "x", "1e1", "0x1", "9" * 5000):
        assert served.ask(f"/thumbnails/{position}/plain.mp4").status in {404, 422}, position


def test_a_file_that_is_not_the_indexed_one_is_not_sent(made, api):
    secret = made.index.with_name("secret.mp4")

    def refused(video_id: str) -> None:
        answer = api.get(video_target(video_id))
        assert answer.status_code == 410
        assert "not there any more as it was indexed" in answer.json()["detail"]

    changed = made.videos["changed.mp4"]
    content, times = changed.read_bytes(), changed.stat()
    changed.write_bytes(content[::-1])
    refused("changed.mp4")
    changed.write_bytes(content)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert api.get(video_target("changed.mp4")).content == content

    linked = made.videos["linked.mp4"]
    content, times = linked.read_bytes(), linked.stat()
    secret.write_bytes(content[::-1])  # of the same size and time
    os.utime(secret, ns=(times.st_atime_ns, times.st_mtime_ns))
    aside = linked.rename(linked.with_name("aside.mp4"))
    linked.symlink_to(secret)
    refused("linked.mp4")
    linked.unlink()
    linked.symlink_to(aside.name)  # a link to the very file is one that may change
    refused("linked.mp4")
    linked.unlink()
    linked.mkdir()
    refused("linked.mp4")
    linked.rmdir()
    os.mkfifo(linked)
    refused("linked.mp4")
    linked.unlink()
    aside.rename(linked)
    assert api.get(video_target("linked.mp4")).content == content

    gone = made.videos["gone.mp4"]
    aside = gone.rename(gone.with_name("aside.mp4"))
    refused("gone.mp4")
    aside.rename(gone)
    folder = gone.parent
    moved = folder.rename(folder.with_name("moved"))
    folder.symlink_to(moved.name)  # a folder above may not be a link either
    refused("plain.mp4")
    folder.unlink()
    moved.rename(folder)
    assert api.get(video_target("plain.mp4")).status_code == 200


def test_videos_are_asked_about_by_their_ids(made, served):
    searcher = made.searcher()
    mean, terms = searcher.by_itself("..")
    similar = served.ask("/similar", {"video": "..", "k": 3}).json["results"]
    assert_as(similar, searcher.similar(mean, 3, without=".."))
    assert all(frame["weight"] is None for video in similar for frame in video["frames"])
    captions = served.ask("/captions", {"video": "..", "k": 5}).json["results"]
    assert_as(captions, searcher.captions_for(terms, 5))
    assert {each["caption"] for each in captions} == {"a plain one", HOSTILE, "two points"}
    attention = served.ask("/attention", {"video": "..", "q": "a red circle"}).json
    expected = searcher.attention(searcher.encode(["a red circle"])[0], "a red circle", "..")
    assert_as([attention], [expected])
    assert sum(frame["weight"] for frame in attention["frames"]) == pytest.approx(1, abs=1e-4)
    for path in ("/similar", "/captions", "/attention"):
        missing = served.ask(path, {"video": "no such", "q": "a"})
        assert (missing.status, missing.json["detail"][:13]) == (404, "the index has")
        assert served.ask(path, {"video": "", "q": "a"}).status == 422
        assert served.ask(path, {"video": "a" * 501, "q": "a"}).status == 422
    assert served.ask("/attention", {"video": "..", "q": "a\0"}).status == 422


def test_every_answer_keeps_pages_of_others_out(served):
    there = ("/", "/page.js", "/page.css", "/health", "/search?q=a", "/openapi.json", "/metrics")
    there += ("/videos/plain.mp4", "/thumbnails/0/plain.mp4")
    missing = ("/no/such", "/docs", "/redoc", "/page.html")
    statuses = {**dict.fromkeys(there, 200), **dict.fromkeys(missing, 404), "/search": 422}
    for target, status in statuses.items():
        answer = served.ask(target)
        assert answer.status == status, target
        for name, value in HEADERS.items():
            assert answer.headers.get_all(name) == [value], (target, name)
    policy = HEADERS["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    page = served.ask("/").body.decode()
    assert not re.search(r"""(src|href)=["']?(https?:)?//|<script>|style=|\son\w+=""", page)

    described = served.ask("/openapi.json").body.decode()
    assert "://" not in described
    assert "/search" in json.loads(described)["paths"]

    for host in ("evil.example", f"evil.example:{served.port}", "127.0.0.1.evil.example", ""):
        foreign = served.ask("/search?q=a", headers={"Host": host})
        assert foreign.status in {400, 403}, host
        assert b"plain.mp4" not in foreign.body
    for host in ("localhost", f"LOCALHOST:{served.port}", "[::1]:80", "127.0.0.1"):
        assert served.ask("/health", headers={"Host": host}).status == 200


def test_health_and_metrics_say_what_is_served(made, served):
    health = served.ask("/health").json
    version = read_version(made.index)
    assert health["status"] == "ok"
    assert health["num_videos"] == len(IDS)
    assert health["num_captions"] == 3
    assert health["model"] == version.fingerprint
    assert health["method"] == "exhaustive"

    def counted(name: str, **labels: str) -> float:
        text = served.ask("/metrics").body.decode()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith((f"{name}{{", f"{name} ")) and all(each in line for each in wanted)
        )

    route = {"route": "/similar", "status": "404"}
    before = counted("xpool_search_requests_total", **route)
    batches = counted("xpool_search_batch_queries_sum")
    served.ask("/similar?video=no+such+video+that+is+secret")
    served.post({"queries": ["a", "b", "c"]})
    assert counted("xpool_search_requests_total", **route) == before + 1
    assert counted("xpool_search_batch_queries_sum") == batches + 3
    assert counted("xpool_search_videos") == len(IDS)
    assert b"secret" not in served.ask("/metrics").body


def until(condition: Callable[[], bool], timeout_s: float = 30) -> bool:
    """Whether something becomes so."""
    stop = time.monotonic() + timeout_s
    while not (found := condition()) and time.monotonic() < stop:
        time.sleep(0.2)
    return found


def test_another_version_is_served_and_a_damaged_one_is_not(made, served, tmp_path):
    before = served.ask("/health").json["version"]
    more = some_videos(tmp_path, ["later.mp4"], seconds=0.5)
    add_to_index(made.index, made.checkpoint, more)
    assert until(lambda: served.ask("/health").json["version"] == before + 1)
    assert served.ask("/search?q=a&k=100").json["num_videos"] == len(IDS) + 1
    assert served.ask("/videos/later.mp4").body == more["later.mp4"].read_bytes()

    whole = (made.index / INDEX).read_bytes()
    for damaged in (b"", b"[]", b"{}", whole[:-20], b"null", b'{"layout": 9}'):
        aside = made.index / f"{INDEX}.new"
        aside.write_bytes(damaged)
        aside.rename(made.index / INDEX)
        time.sleep(0.4)  # every few are looked at
        answer = served.ask("/search?q=a&k=100")
        assert (answer.status, answer.json["num_videos"]) == (200, len(IDS) + 1)
    (made.index / INDEX).unlink()
    time.sleep(REFRESH_S + 0.5)
    assert served.ask("/health").json["version"] == before + 1

    (made.index / INDEX).write_bytes(whole)
    version = read_version(made.index)
    (later,) = [each for each in version.segments if each.num_videos == 1]
    broken = made.index / "segments" / later.name / "terms.arrow"
    content = broken.read_bytes()
    broken.unlink()  # who has it mapped keeps it
    broken.write_bytes(b"x" * len(content))
    number = write_version(made.index, _next(version)).version
    time.sleep(REFRESH_S + 0.5)
    assert served.ask("/health").json["version"] == before + 1
    broken.write_bytes(content)
    write_version(made.index, read_version(made.index))
    assert until(lambda: served.ask("/health").json["version"] == number)

    first = version.segments[0]
    kept = _next(read_version(made.index), segments=[first])
    write_version(made.index, kept)
    shutil.rmtree(broken.parent)  # as jobs/index.py does
    assert until(lambda: served.ask("/health").json["version"] == kept.version)
    assert served.ask("/videos/later.mp4").status == 404
    assert served.ask("/health").json["num_videos"] == len(IDS)


def _next(version: IndexVersion, **changes) -> IndexVersion:
    return replace(version, version=version.version + 1, **changes)


@pytest.mark.slow
def test_shards_answer_as_one_process_does(made, guarded):
    searcher = made.searcher()
    assert len({batch for s in searcher.index.segments for batch in range(s.num_batches)}) > 2
    headers = {"authorization": f"Bearer {TOKEN}"}
    expected = searcher.search(searcher.encode(["a red circle"]), 100, "exhaustive")[0]
    asked = {"q": "a red circle", "k": 100}
    found = guarded.ask("/search", asked, headers=headers, source="127.0.0.9")
    assert found.status == 200, found.body
    assert_as(found.json["answers"][0]["results"], expected)
    mean, terms = searcher.by_itself("plain.mp4")
    asked = {"video": "plain.mp4", "k": 4}
    similar = guarded.ask("/similar", asked, headers=headers, source="127.0.0.9")
    assert_as(similar.json["results"], searcher.similar(mean, 4, without="plain.mp4"))
    captions = guarded.ask("/captions", asked, headers=headers, source="127.0.0.9")
    assert_as(captions.json["results"], searcher.captions_for(terms, 4))


@pytest.mark.slow
def test_the_token_opens_a_service_and_is_in_no_command_line(guarded):
    assert guarded.address.endswith(f"/?token={quote(TOKEN, safe='')}")
    assert guarded.ask("/search?q=a").status == 401
    assert guarded.ask("/search?q=a", headers={"authorization": "Bearer no"}).status == 401
    right = {"authorization": f"Bearer {TOKEN}"}
    assert guarded.ask("/health", headers=right).status == 200
    processes = guarded.processes()
    assert len(processes) > 3
    assert not [p for p in processes if any(TOKEN in word for word in p.cmdline())]


@pytest.mark.slow
def test_an_address_that_asks_too_much_has_to_wait(guarded):
    right = {"authorization": f"Bearer {TOKEN}"}

    def status(source: str) -> Answer:
        return guarded.ask("/search?q=a", headers=right, source=source)

    answers = [status("127.0.0.2") for _ in range(21)]
    assert [answer.status for answer in answers] == [200] * 20 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert "ask again in" in answers[-1].json["detail"]
    assert status("127.0.0.3").status == 200
    assert guarded.ask("/health", headers=right, source="127.0.0.2").status == 200


def test_the_page_gets_a_cookie_for_the_token(made):
    for api in api_of(made, token=TOKEN):
        for path in ("/health", "/videos/plain.mp4", "/openapi.json", "/metrics", "/no/such"):
            refused = api.get(path)
            assert refused.status_code == 401, path
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "?token=" in refused.json()["detail"]
        for path in ("/", "/page.js", "/page.css"):
            assert api.get(path).status_code == 200
        assert api.get(f"/health?token={TOKEN}").status_code == 401
        assert api.get("/", params={"token": "wrong"}).status_code == 401
        assert "set-cookie" not in api.get("/", params={"token": "wrong"}).headers
        for wrong in (TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ü", ""):
            header = {"authorization": f"Bearer {wrong}".encode()}
            assert api.get("/health", headers=header).status_code == 401

        welcome = api.get("/", params={"token": TOKEN, "q": "a & b=ü"})
        assert welcome.status_code == 303
        assert welcome.headers["location"] == "/?q=a+%26+b%3D%C3%BC"
        cookie = welcome.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert TOKEN not in welcome.headers["location"]
        assert api.get("/health").status_code == 200  # the client keeps it
        api.cookies.clear()
        assert api.get("/health", headers={"cookie": "xpool_search_token=no"}).status_code == 401
        assert api.get("/health", headers={"host": "any.name"}).status_code == 401


def test_wrong_tokens_are_limited(made):
    for api in api_of(made, token=TOKEN):
        statuses = [
            api.get("/health", headers={"authorization": f"Bearer {number}"}).status_code
            for number in range(40)
        ]
        assert statuses == [401] * 30 + [429] * 10
        assert 1 <= int(api.get("/health").headers["retry-after"]) <= 60


def test_questions_about_videos_count_as_queries(made):
    for api in api_of(made, per_minute=3):
        assert api.get("/similar?video=plain.mp4").status_code == 200
        assert api.get("/captions?video=plain.mp4").status_code == 200
        assert api.get("/attention?video=plain.mp4&q=a").status_code == 200
        refused = api.get("/similar?video=plain.mp4")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert api.get("/videos/plain.mp4").status_code == 200


def test_where_others_reach_it_there_always_is_a_token(monkeypatch):
    monkeypatch.delenv("XPOOL_SEARCH_TOKEN", raising=False)
    assert launch._token(ServiceConfig(index="x")) == ""
    assert launch._token(ServiceConfig(index="x", host="::1")) == ""
    made = {launch._token(ServiceConfig(index="x", host=host)) for host in ("0.0.0.0", "::", "a.b")}
    assert len(made) == 3
    assert all(len(token) >= 24 for token in made)
    monkeypatch.setenv("XPOOL_SEARCH_TOKEN", TOKEN)
    assert launch._token(ServiceConfig(index="x", host="0.0.0.0")) == TOKEN
    with pytest.raises(ValueError, match="at least 16 characters"):
        ServiceConfig(index="x", token="short")
    assert host_of("[::1]:80") == "::1"
    assert host_of("A.b:80") == "a.b"
