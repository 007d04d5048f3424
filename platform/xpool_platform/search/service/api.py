"""The API of the service: searches, videos, thumbnails, health, and the page."""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi import Query as InQuery
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field

from xpool_platform.data.plain_text import MAX_ID_CHARACTERS, caption_problem
from xpool_platform.errors import UserError
from xpool_platform.search.answers import (
    AttentionAnswer,
    CaptionsAnswer,
    QueryAnswer,
    SearchAnswer,
    SimilarAnswer,
)
from xpool_platform.search.config import MAX_RESULTS, Method
from xpool_platform.search.searcher import Searcher
from xpool_platform.search.service.collection import Collection, Query
from xpool_platform.search.service.doors import Doors, Rate, too_many
from xpool_platform.search.service.files import PAGE_FILES, page_file, video_file
from xpool_platform.search.service.measures import Measured, Measures

MAX_QUERIES = 32
"""Queries in one request."""

MAX_FRAMES = 10_000

K = Annotated[int, InQuery(ge=1, le=MAX_RESULTS, description="how many are wanted")]
VideoId = Annotated[
    str, InQuery(min_length=1, max_length=MAX_ID_CHARACTERS, description="the id of a video")
]


class Refusal(BaseModel):
    """Why there is no answer."""

    detail: str | list[Any]


class Health(BaseModel):
    """What is served."""

    status: str
    num_videos: int
    num_captions: int
    version: int = Field(description="of the index, which may be changed while it is served")
    model: str = Field(description="the fingerprint of the model")
    method: str
    recall_at_10: float | None = Field(description="of two stages, where it was measured")
    max_query_length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiSettings:
    """What the API is told of the service."""

    token: str
    hosts: tuple[str, ...]
    """Names that it answers to; none: to all."""

    max_query_length: int
    queries_per_minute: int
    method: Method
    copies: Path
    """Folder for videos that come from an object store."""


REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Refusal, "description": HTTPStatus(code).phrase}
    for code in (400, 401, 403, 413, 422, 429)
}
MISSING: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    404: {"model": Refusal, "description": "there is no such video"},
}


def build_api(collection: Collection, measures: Measures, settings: ApiSettings) -> FastAPI:
    """The application that a replica runs."""
    api = FastAPI(
        title="X-Pool search",
        version="1",
        description="Sentences in, the videos and the moments that match them out.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    rate = Rate(settings.queries_per_minute)
    searcher = collection.searcher
    sentence = Annotated[
        str,
        InQuery(min_length=1, max_length=settings.max_query_length, description="a sentence"),
    ]

    class Queries(BaseModel):
        """Sentences to search for at once."""

        queries: list[Annotated[str, Field(min_length=1, max_length=settings.max_query_length)]] = (
            Field(min_length=1, max_length=MAX_QUERIES)
        )
        k: int = Field(10, ge=1, le=MAX_RESULTS)
        method: Method = settings.method

    def count(request: Request, amount: int = 1) -> None:
        address = request.client.host if request.client else "?"
        if not rate.allows(address, amount):
            raise _TooManyError(rate.wait_s(address))

    async def found(sentences: list[str], k: int, method: Method) -> SearchAnswer:
        cleaned = [_checked(each) for each in sentences]
        start = perf_counter()
        try:
            answers = await collection.search([Query(each, k, method) for each in cleaned])
        except UserError as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        return SearchAnswer(
            num_videos=searcher.index.version.num_videos,
            method=searcher.index.method_for(method),
            took_ms=1000 * (perf_counter() - start),
            answers=[
                QueryAnswer(query=each, results=results)
                for each, results in zip(cleaned, answers, strict=True)
            ],
        )

    @api.get("/search", responses=REFUSALS)
    async def search(
        request: Request, q: sentence, k: K = 10, method: Method = settings.method
    ) -> SearchAnswer:
        """The videos that fit a sentence best, with the moments that it attends to."""
        count(request)
        return await found([q], k, method)

    @api.post("/search", responses=REFUSALS)
    async def search_many(request: Request, queries: Queries) -> SearchAnswer:
        """The same for several sentences at once."""
        count(request, len(queries.queries))
        return await found(queries.queries, queries.k, queries.method)

    @api.get("/attention", responses=MISSING)
    async def attention(request: Request, video: VideoId, q: sentence) -> AttentionAnswer:
        """How a sentence attends to the frames of a video."""
        count(request)
        return _there(await collection.attention(_checked(q), video))

    @api.get("/similar", responses=MISSING)
    async def similar(request: Request, video: VideoId, k: K = 10) -> SimilarAnswer:
        """Videos like one, whatever a text would say."""
        count(request)
        return SimilarAnswer(video_id=video, results=_there(await collection.similar(video, k)))

    @api.get("/captions", responses=MISSING)
    async def captions(request: Request, video: VideoId, k: K = 10) -> CaptionsAnswer:
        """The captions of the index that fit a video best."""
        count(request)
        results = _there(await collection.captions_for(video, k))
        return CaptionsAnswer(video_id=video, results=results)

    _add_files(api, searcher, settings)
    _add_state(api, searcher, measures, settings)

    @api.exception_handler(_TooManyError)
    async def refused(_request: Request, error: _TooManyError) -> Response:
        return too_many(error.wait_s)

    @api.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        # without what was sent: JSON has no form for a NaN or half of a surrogate pair
        said = [{key: each[key] for key in ("type", "loc", "msg")} for each in error.errors()]
        return JSONResponse({"detail": said}, HTTPStatus.UNPROCESSABLE_ENTITY)

    @api.exception_handler(UserError)
    async def broken(_request: Request, error: UserError) -> Response:
        return JSONResponse({"detail": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)

    api.add_middleware(Measured, measures=measures)
    api.add_middleware(
        Doors, token=settings.token, hosts=settings.hosts, open_paths=tuple(PAGE_FILES)
    )
    return api


def _add_files(api: FastAPI, searcher: Searcher, settings: ApiSettings) -> None:
    """Videos, thumbnails and the page."""

    @api.get(
        "/videos/{video_id:path}",
        response_class=FileResponse,
        responses={**MISSING, 206: {"description": "a part of the file"}}
        | {410: {"model": Refusal, "description": "the file is not what was indexed"}}
        | {416: {"description": "there is no such part"}},
    )
    def video(video_id: Annotated[str, InPath(max_length=MAX_ID_CHARACTERS)]) -> FileResponse:
        """The file of a video, or a part of it (Range)."""
        return video_file(_there(searcher.record(video_id)), settings.copies)

    @api.get(
        "/thumbnails/{position}/{video_id:path}",
        response_class=Response,
        responses={**MISSING, 200: {"content": {"image/jpeg": {}}}},
    )
    def thumbnail(
        position: Annotated[int, InPath(ge=0, lt=MAX_FRAMES)],
        video_id: Annotated[str, InPath(max_length=MAX_ID_CHARACTERS)],
    ) -> Response:
        """A sampled frame of a video, small."""
        jpeg = _there(searcher.thumbnail(video_id, position))
        return Response(jpeg, media_type="image/jpeg", headers={"cache-control": "max-age=60"})

    for path in PAGE_FILES:

        def page(path: str = path) -> FileResponse:
            return page_file(path)

        api.add_api_route(path, page, include_in_schema=False)


def _add_state(api: FastAPI, searcher: Searcher, measures: Measures, settings: ApiSettings) -> None:
    """What is served, and how it goes."""

    @api.get("/health", responses=REFUSALS)
    async def health() -> Health:
        """What is served."""
        version = searcher.index.version
        return Health(
            status="ok",
            num_videos=version.num_videos,
            num_captions=sum(segment.num_captions for segment in version.segments),
            version=version.version,
            model=version.fingerprint,
            method=searcher.index.method_for(settings.method),
            recall_at_10=version.recall.at_10 if version.recall else None,
            max_query_length=settings.max_query_length,
        )

    @api.get("/metrics", response_class=Response, responses=REFUSALS)
    async def metrics() -> Response:
        """Counters of this replica, for Prometheus."""
        version = searcher.index.version
        text = measures.text(num_videos=version.num_videos, version=version.version)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


class _TooManyError(Exception):
    """An address asks more than it may."""

    def __init__(self, wait_s: int) -> None:
        super().__init__()
        self.wait_s = wait_s


def _checked(sentence: str) -> str:
    """A sentence without space around it. Raises HTTPException for what is none."""
    sentence = sentence.strip()
    if reason := caption_problem(sentence):
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"the query {reason}")
    return sentence


def _there(found: Any) -> Any:
    """What was found. Raises HTTPException if it was not."""
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "the index has no such video or frame")
    return found
