"""Server: the live page of a directory on an address, until it is stopped. Reads only."""

import asyncio
import errno
import socket
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from auscult.core.errors import SetupError
from auscult.live.access import HEADERS, WILDCARDS, Access
from auscult.live.app import App
from auscult.live.lanes import Lanes
from auscult.store.damage import StoreWarning

MAX_CONNECTIONS = 512
REQUEST_S = 10.0
KEEP_ALIVE_S = 15
MAX_HEAD_BYTES = 16 * 1024
UNREAD_S = 60.0
STOP_S = 1


def serve(
    directory: Path,
    host: str,
    port: int,
    token: str = "",
    allowed: Sequence[str] = (),
    on_ready: Callable[[str], object] = print,
) -> None:
    """Show the runs of a directory until the process is interrupted.

    Args:
        directory: Where the runs are; it need not hold any yet.
        host: The address to listen on.
        port: The port; 0 takes one that is free.
        token: What a request must know; needed where other machines can reach the address.
        allowed: Further names by which a proxy passes requests on.
        on_ready: Called with the address to open when the server listens.

    Raises:
        SetupError: if there is no such directory, a token is missing, or the address cannot be listened on.
    """
    root = directory.resolve()
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing there"
        raise SetupError(
            f"Expected {directory} to be a directory with runs in it, but got {found}. "
            "Write: auscult live DIR, with the DIR in which auscult.watch(model, optimizer, 'DIR/name') keeps its runs."
        )
    Access.to(host, port, token, allowed)  # refused before anything is opened
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    access = Access.to(host, port, token, allowed)
    warnings.simplefilter("ignore", StoreWarning)  # said on the page, where it belongs
    lanes = Lanes()
    config = uvicorn.Config(
        Guarded(App(root, lanes).asgi, access),
        http=TimedProtocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,  # it would keep the token
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    on_ready(_address(host, port, token))
    try:
        asyncio.run(Stoppable(config).serve(sockets=[listener]))
    except KeyboardInterrupt:
        pass
    finally:
        lanes.close()


class Guarded:
    """An application that answers only who may ask, and puts the same headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [each for each in message["headers"] if each[0].decode("latin-1") not in HEADERS]
                message = {**message, "headers": [*given, *_ENCODED]}
                if not any(name == b"cache-control" for name, _ in given):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        await self._answer(scope)(scope, receive, send_on)

    def _answer(self, scope: Scope) -> ASGIApp:
        headers = Headers(scope=scope)
        query = scope["query_string"].decode("latin-1")
        refusal = self._access.refusal(scope["method"], dict(headers.items()), query)
        if refusal is not None:
            return PlainTextResponse(f"{refusal.text}\n", refusal.status)
        if self._access.brings_token(query):
            answer = Response(status_code=303, headers={"location": "./"})  # the same page, without the token
            answer.set_cookie(self._access.cookie, self._access.proof, httponly=True, samesite="lax", path="/")
            return answer
        return self._app


class Stoppable(uvicorn.Server):
    """A server that ends the streams of its viewers when it is stopped; they would not end by themselves."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of every viewer, then stop."""
        for each in tuple(self.server_state.connections):
            if isinstance(each, TimedProtocol):
                each.transport.close()
        await super().shutdown(sockets)


class TimedProtocol(H11Protocol):
    """HTTP for who asks within ten seconds and reads within a minute: any other connection is closed."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Take what has come; the head of a request must not take longer than a request may."""
        self._await_request()
        super().data_received(data)
        if self._answering:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._wait_no_more()
        self._is_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read, which would keep its place for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It does read."""
        super().resume_writing()
        self._is_read()

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = getattr(self, "cycle", None)  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _await_request(self) -> None:
        if self._deadline is None and not self._answering:
            self._deadline = self.loop.call_later(REQUEST_S, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


_ENCODED = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        advice = "Write --port 0 for a port that is free" if taken else "--host takes an address of this machine"
        raise SetupError(
            f"Expected to listen on {host}:{port}, but got: {error.strerror or error}. {advice}."
        ) from None
    return listener


def _address(host: str, port: int, token: str) -> str:
    name = socket.gethostname() if host in WILDCARDS else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")
