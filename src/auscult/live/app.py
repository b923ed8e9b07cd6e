"""App: the addresses of the live page. Each only shows something; a run is found by its id in the listing alone."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from auscult import pages
from auscult.live.board import Board
from auscult.live.broadcast import as_json
from auscult.live.feed import Feed
from auscult.live.follower import Unreadable
from auscult.live.lanes import Lanes
from auscult.live.mark import Mark
from auscult.live.shell import listing_html, run_html, unreadable_html

MAX_VIEWERS = 200
MISSING = "Expected a run of this directory, but there is none at this address, or none any more."
TYPES = {".js": "text/javascript", ".css": "text/css"}


class Asset(NamedTuple):
    """A file of the browser side, as it is sent."""

    content: bytes
    media_type: str
    etag: str


class App:
    """The addresses of one listing.

    Attributes:
        asgi: The application.

    Args:
        root: The directory that is listed, resolved.
        lanes: Where runs are read.
    """

    def __init__(self, root: Path, lanes: Lanes) -> None:
        self._title = root.name or str(root)
        self._board = Board(root, lanes)
        self._assets = dict(_list_assets(Path(pages.__path__[0]) / "assets", ""))
        self._viewers = 0
        self.asgi = Starlette(
            routes=[
                Route("/", self._listing),
                Route("/events", self._listing_events),
                Route("/assets/{name:path}", self._asset),
                Route("/run/{id}", self._run_without_slash),
                Route("/run/{id}/", self._run),
                Route("/run/{id}/page", self._page),
                Route("/run/{id}/events", self._run_events),
                Route("/run/{id}/points", self._points),
                Route("/run/{id}/cells", self._cells),
                Route("/run/{id}/score", self._score),
            ],
            exception_handlers={HTTPException: _told, Unreadable: _unreadable},
        )
        self.asgi.router.redirect_slashes = False  # which would name the host, and leave out a proxy's prefix

    async def _listing(self, request: Request) -> Response:
        return HTMLResponse(listing_html(self._title))

    async def _listing_events(self, request: Request) -> Response:
        return self._stream(request, self._board.watch())

    async def _asset(self, request: Request) -> Response:
        found = self._assets.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        headers = {"cache-control": "no-cache", "etag": found.etag}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=found.media_type, headers=headers)

    async def _run_without_slash(self, request: Request) -> Response:
        feed = await self._find(request)
        return RedirectResponse(f"{feed.follower.entry.id}/", 303)

    async def _run(self, request: Request) -> Response:
        feed = await self._board.find(request.path_params["id"])
        if feed is None:
            return HTMLResponse(unreadable_html("No such run", MISSING), 404)
        try:
            made = await feed.page()
        except Unreadable as error:
            return HTMLResponse(unreadable_html(feed.follower.entry.place, str(error)))
        return HTMLResponse(run_html(made.page, made.mark))

    async def _page(self, request: Request) -> Response:
        made = await (await self._find(request)).page()
        return Response(made.text, media_type="application/json", headers={"content-encoding": "gzip"})

    async def _run_events(self, request: Request) -> Response:
        feed = await self._find(request)
        given = request.headers.get("last-event-id") or request.query_params.get("after", "")
        return self._stream(request, feed.watch(Mark.parse(given)))

    async def _points(self, request: Request) -> Response:
        feed = await self._find(request)
        first, last = (_step(request, name) for name in ("first", "last"))
        charts = await feed.points(first, last)
        return _json({"first": first, "last": last, "charts": charts})

    async def _cells(self, request: Request) -> Response:
        feed = await self._find(request)
        first, last = (_step(request, name) for name in ("first", "last"))
        found = await feed.cells(request.query_params.get("metric", ""), first, last)
        return _json({"first": first, "last": last, "map": found})

    async def _score(self, request: Request) -> Response:
        made = await (await self._find(request)).page()
        return _json({"mark": str(made.mark), "score": made.score.to_dict()})

    async def _find(self, request: Request) -> Feed:
        found = await self._board.find(request.path_params["id"])
        if found is None:
            raise HTTPException(404)
        return found

    def _stream(self, request: Request, messages: AsyncIterator[bytes]) -> Response:
        if self._viewers >= MAX_VIEWERS:
            raise HTTPException(503, headers={"retry-after": "10"})
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}  # a proxy must not keep events back
        if request.method == "HEAD":  # which ends with the headers
            return Response(media_type="text/event-stream", headers=headers)
        return StreamingResponse(self._counted(messages), media_type="text/event-stream", headers=headers)

    async def _counted(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._viewers += 1
        try:
            yield b"retry: 1000\n\n"
            async for each in messages:
                if each:
                    yield each
        finally:
            self._viewers -= 1
            await messages.aclose()  # pyright: ignore[reportAttributeAccessIssue]


def _step(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise HTTPException(400)
    return int(text)


def _json(data: dict[str, object]) -> Response:
    return Response(as_json(data), media_type="application/json")


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, headers=dict(error.headers or {}))


async def _unreadable(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"This run cannot be read: {error}\n", 503, headers={"retry-after": "2"})


def _list_assets(directory: Path, prefix: str) -> list[tuple[str, Asset]]:
    """Every script and style of the browser side by name; nothing else has an address."""
    found: list[tuple[str, Asset]] = []
    for each in directory.iterdir():
        if each.is_dir():
            found += _list_assets(each, f"{prefix}{each.name}/")
        elif each.suffix in TYPES:
            content = each.read_bytes()
            asset = Asset(content, TYPES[each.suffix], f'"{sha256(content).hexdigest()[:16]}"')
            found.append((f"{prefix}{each.name}", asset))
    return found
