"""What the service counts, for Prometheus; each replica counts its own."""

import time
from collections.abc import MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from xpool_platform.search.service.doors import App, Receive, Scope, Send

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
UNKNOWN_ROUTE = "other"


class Measures:
    """The counters of a replica."""

    def __init__(self, replica: str) -> None:
        self._registry = CollectorRegistry()
        labels = {"replica": replica}
        self._requests = Counter(
            "xpool_search_requests_total",
            "Requests by route and status.",
            ["route", "status", *labels],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "xpool_search_request_seconds",
            "Time from a request to the start of its answer.",
            ["route", *labels],
            buckets=SECONDS,
            registry=self._registry,
        )
        batch = Histogram(
            "xpool_search_batch_queries",
            "Queries that were answered in one pass over the index.",
            list(labels),
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self._registry,
        )
        videos = Gauge(
            "xpool_search_videos",
            "Videos in the index.",
            list(labels),
            registry=self._registry,
        )
        version = Gauge(
            "xpool_search_index_version",
            "Version of the index.",
            list(labels),
            registry=self._registry,
        )
        self._labels = labels
        self._batch, self._videos = batch.labels(**labels), videos.labels(**labels)
        self._version = version.labels(**labels)

    def batch(self, num_queries: int) -> None:
        """Count a pass over the index."""
        self._batch.observe(num_queries)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route=route, status=str(status), **self._labels).inc()
        self._seconds.labels(route=route, **self._labels).observe(seconds)

    def text(self, *, num_videos: int, version: int) -> bytes:
        """All of them, as Prometheus reads it."""
        self._videos.set(num_videos)
        self._version.set(version)
        return generate_latest(self._registry)


class Measured:
    """ASGI middleware that counts requests by their route, never by what a user wrote in them."""

    def __init__(self, app: App, *, measures: Measures) -> None:
        self._app, self._measures = app, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()

        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
                seconds = time.perf_counter() - start
                self._measures.request(route, message["status"], seconds)
            await send(message)

        await self._app(scope, receive, sent)
