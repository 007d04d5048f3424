"""Who may ask, and how much: hosts, the token, the rate, the size of a request."""

import ipaddress
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "xpool_search_token"
COOKIE_S = 7 * 24 * 3600

MAX_BODY_BYTES = 2**17
WRONG_TOKENS_PER_MINUTE = 30

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Of every answer: the page takes nothing from elsewhere, and nobody frames or embeds it."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header.partition("]")[0].removeprefix("[").lower()
    return header.rpartition(":")[0].lower() if header.count(":") == 1 else header.lower()


class Rate:
    """How much each address may ask of this process."""

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def allows(self, address: str, amount: int = 1) -> bool:
        """Count so much for an address, if it has that much left, or all that there is."""
        return self._limiter.hit(self._item, address, cost=min(amount, self._item.amount))

    def wait_s(self, address: str) -> int:
        """Seconds until an address has something left."""
        stats = self._limiter.get_window_stats(self._item, address)
        return max(1, round(stats.reset_time - time.time()))


class Doors:
    """ASGI middleware before everything else.

    Without a token only requests to one of `hosts` are answered, so that no page elsewhere that a
    name leads to this machine reads the answers. With one it has to be shown: as `Authorization:
    Bearer`, or in the cookie that the page gets at `/?token=...`; `open_paths` need none.
    """

    def __init__(
        self, app: App, *, token: str, hosts: Collection[str], open_paths: Collection[str]
    ) -> None:
        self._app, self._token = app, token
        self._hosts, self._open = set(hosts), set(open_paths)
        self._wrong = Rate(WRONG_TOKENS_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = self._answer(scope, headers)
        if answer is not None:
            await answer(scope, receive, _with_headers(send))
            return
        await self._app(scope, _bounded(receive), _with_headers(send))

    def _answer(self, scope: Scope, headers: Headers) -> Response | None:
        """What is answered at the door; None: it may come in."""
        if self._hosts and host_of(headers.get("host", "")) not in self._hosts:
            return _refusal(
                HTTPStatus.FORBIDDEN,
                "this name is not one that the service answers to; start it with --allowed-hosts",
            )
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > MAX_BODY_BYTES:
            return _refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a request may have {MAX_BODY_BYTES} bytes; ask fewer queries at once",
            )
        return self._unless_known(scope, headers) if self._token else None

    def _unless_known(self, scope: Scope, headers: Headers) -> Response | None:
        """What is answered to who does not show the token."""
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        client = (scope.get("client") or ("?",))[0]
        if scope["path"] == "/" and "token" in query:
            return self._welcome(query, client, scheme=scope.get("scheme", "http"))
        shown = headers.get("authorization", "").removeprefix("Bearer ") or _cookie(headers)
        if scope["path"] in self._open or (shown and self._is_right(shown)):
            return None
        return self._wrong_token(client)

    def _welcome(self, query: dict[str, list[str]], client: str, *, scheme: str) -> Response:
        """The page remembers the token in a cookie, and its address no longer holds it."""
        if not self._is_right(query.pop("token")[0]):
            return self._wrong_token(client)
        rest = urlencode(query, doseq=True)
        answer = RedirectResponse(f"/?{rest}" if rest else "/", HTTPStatus.SEE_OTHER)
        answer.set_cookie(
            COOKIE,
            self._token,
            max_age=COOKIE_S,
            httponly=True,
            samesite="strict",
            secure=scheme == "https",
        )
        return answer

    def _wrong_token(self, client: str) -> Response:
        if not self._wrong.allows(client):
            return too_many(self._wrong.wait_s(client))
        return _refusal(
            HTTPStatus.UNAUTHORIZED,
            "a token is needed: open the address with ?token=... that the service printed, or send "
            "it as Authorization: Bearer",
            {"www-authenticate": "Bearer"},
        )

    def _is_right(self, shown: str) -> bool:
        return secrets.compare_digest(shown.encode(), self._token.encode())


def too_many(wait_s: int) -> Response:
    """The answer to who asks too much."""
    return _refusal(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"too many queries from this address; ask again in {wait_s} s",
        {"retry-after": str(wait_s)},
    )


def _refusal(status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)


def _cookie(headers: Headers) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message.get("headers", []), *own]
        await send(message)

    return sent


def _bounded(receive: Receive) -> Receive:
    """A body that is sent in pieces ends at the bound, and is then no JSON."""
    left = MAX_BODY_BYTES

    async def received() -> MutableMapping[str, Any]:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            body = message.get("body", b"")
            message["body"] = body[:left]
            left -= len(message["body"])
            if len(body) > len(message["body"]):
                message["more_body"] = False
        return message

    return received
