"""Attacks on the real server, byte by byte. Each is refused or harmless, and the server goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from auscult.core.run import Parameter

TOKEN = "correct-horse-battery-staple"
SECRET = "the secret outside"
SCRIPT = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def root(tmp_path, grower):
    return prepare(tmp_path, grower)


def prepare(place, grower):
    (place / "secret.txt").write_text(SECRET)
    grower(place / "outside").grow(3).writer.close()
    grower(place / "runs" / "plain").grow(100).end()
    return place / "runs"


@pytest.fixture(scope="module")
def plain(tmp_path_factory, grower, serve):
    """A server of one run that no test changes."""
    return serve(prepare(tmp_path_factory.mktemp("plain"), grower))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, grower, serve):
    """The same with a token."""
    return serve(prepare(tmp_path_factory.mktemp("guarded"), grower), "--token", TOKEN)


def exchange(port: int, request: bytes, end: bool = False) -> bytes:
    """What comes back for some bytes until the server closes; with `end`, after our side has closed."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        try:
            connection.sendall(request)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except OSError:  # closed while more was being sent
            pass
    return received


def ask(port: int, target: str, *headers: str, host: str = "localhost", method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return exchange(port, "\r\n".join(lines).encode("latin-1"))


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


TRAVERSALS = [
    "..", "../secret.txt", "../../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "%2e%2e%2fsecret.txt",
    "..%5csecret.txt", "....//secret.txt", "..;/secret.txt", "%252e%252e%252fsecret.txt", "..%c0%afsecret.txt",
    "/etc/passwd", "%2fetc%2fpasswd", "//etc/passwd", "file:///etc/passwd", "\\\\etc\\passwd", "~root/.bashrc",
    "plain%00", "plain", "./plain", "%00", "%0d%0aSet-Cookie:x=y", "%e2%80%ae", "a" * 5000, "*", "..%00/secret.txt",
    "../outside", "..%2foutside", "../runs/plain/run.json",
]  # fmt: skip


def test_no_parameter_leads_out_of_the_directory(plain) -> None:
    server, digits = plain, plain.run_id("plain")
    for attempt in TRAVERSALS:
        for target in (
            f"/{attempt}", f"/run/{attempt}/", f"/run/{attempt}/page", f"/run/{attempt}/events", f"/run/{attempt}",
            f"/run/{digits}/{attempt}", f"/run/{digits}/../../{attempt}", f"/assets/{attempt}",
            f"/assets/vendor/{attempt}",
            f"/run/{digits}/points?first={attempt}&last=3", f"/run/{digits}/points?first=1&last={attempt}",
        ):  # fmt: skip
            answer = ask(server.port, target)
            assert SECRET.encode() not in answer and b"root:" not in answer and b"Set-Cookie" not in answer, target
            assert status(answer) in (400, 404), (target, answer[:200])
    assert status(ask(server.port, "/assets/live.js")) == 200 == status(ask(server.port, f"/run/{digits}/"))


def test_links_out_of_the_directory_are_not_followed(root, serve, tmp_path, grower) -> None:
    (root / "linked").symlink_to(tmp_path / "outside")
    grower(root / "tail").grow(3).writer.close()
    for name in ("events.jsonl", "channels.jsonl"):
        (root / "tail" / name).unlink()
        (root / "tail" / name).symlink_to(tmp_path / "secret.txt")
    server = serve(root)
    digits = server.run_id("tail")
    page = ask(server.port, f"/run/{digits}/")
    assert status(page) == 200 and b"leads out" in page
    assert SECRET.encode() not in page and str(tmp_path).encode() not in page
    assert status(ask(server.port, f"/run/{digits}/page")) == 503
    assert status(ask(server.port, f"/run/{sha256(b'plain').hexdigest()[:16]}/")) == 200
    assert status(ask(server.port, f"/run/{sha256(b'linked').hexdigest()[:16]}/")) == 404


def test_a_swapped_directory_is_not_followed_either(root, serve, tmp_path) -> None:
    server = serve(root)
    digits = server.run_id("plain")
    (root / "plain").rename(tmp_path / "moved")
    (root / "plain").symlink_to(tmp_path / "outside")
    answer = ask(server.port, f"/run/{digits}/")
    assert status(answer) == 404 or b"cannot be read" in answer
    assert b"id of outside" not in answer


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), 401),
        (("Authorization: Bearer wrong-wrong-wrong-wrong",), 401),
        ((f"Authorization: Bearer {TOKEN}",), 200),
        ((f"Authorization: Bearer {TOKEN}", "Origin: http://evil.example"), 403),
        ((f"Authorization: Bearer {TOKEN}", "Sec-Fetch-Site: cross-site"), 403),
        (("Cookie: auscult=1",), 401),
    ],
)
def test_with_a_token_everything_needs_it(headers, expected, guarded) -> None:
    server = guarded
    for target in ("/", "/events?x=1", "/assets/live.js", "/run/x/", "/run/x/events", "/nowhere"):
        if expected == 200 and target == "/events?x=1":
            continue  # it would not end
        found = status(ask(server.port, target, *headers))
        assert found == (404 if expected == 200 and target in ("/run/x/", "/run/x/events", "/nowhere") else expected), (
            target
        )
    assert status(ask(server.port, "/", *headers, host="evil.example")) == 403


def test_the_first_address_leaves_a_cookie_and_no_token_behind(root, serve) -> None:
    server = serve(root, "--token", TOKEN)
    assert server.address.endswith(f"/?token={TOKEN}")
    code, headers, _ = server.get(f"/?token={TOKEN}")
    assert code == 303 and headers["location"] == "./" and headers["referrer-policy"] == "no-referrer"
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie and "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert server.get("/", {"Cookie": cookie.split(";")[0]})[0] == 200
    assert server.get("/?token=wrong-wrong-wrong-wrong", {})[0] == 401
    server.stop()
    assert not any(TOKEN in line for line in server.lines)  # no access log keeps it


def test_another_host_needs_a_token(root) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "auscult", "live", str(root), "--host", "0.0.0.0", "--port", "0"],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "COLUMNS": "400"},
    )  # fmt: skip
    assert done.returncode == 2 and "Expected a token" in done.stderr and "--token" in done.stderr
    assert "Traceback" not in done.stderr


MALFORMED = [
    b"", b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
    b"GET /" + b"a" * 10_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10_000_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 100_000 + b"\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n" + b"a" * 10_000_000,
    b"GET /events HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: close, upgrade\r\nOrigin: http://x\r\n\r\n",
]  # fmt: skip


def test_malformed_and_oversized_requests_are_refused(plain) -> None:
    server = plain
    for request in MALFORMED:
        answer = exchange(server.port, request, end=True)
        assert status(answer) in (0, 400, 403, 405, 431), (request[:80], answer[:200])
    assert server.get("/")[0] == 200 and server.process.poll() is None


@pytest.mark.live
def test_a_connection_that_asks_nothing_is_closed(plain) -> None:
    for opening in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "):
        with socket.create_connection(("127.0.0.1", plain.port), timeout=30) as connection:
            connection.sendall(opening)
            assert connection.recv(1) == b""


def test_every_answer_has_the_headers(plain) -> None:
    server, digits = plain, plain.run_id("plain")
    for target in (
        "/",
        f"/run/{digits}/",
        f"/run/{digits}/page",
        "/assets/live.js",
        "/nowhere",
        f"/run/{digits}/score",
    ):
        _, headers, body = server.get(target)
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY" and "server" not in headers
        assert "access-control-allow-origin" not in headers
        assert b"nowhere" not in body
    page = server.get(f"/run/{digits}/")[2].decode()
    scripts = page.split("<script")[1:]
    assert len(scripts) == 3 and all("src=" in each.split(">")[0] or "application/json" in each for each in scripts)
    assert "<style" not in page and " style=" not in page and " onclick=" not in page


@pytest.mark.live
def test_hostile_names_are_text(root, serve, grower) -> None:
    long = "N" * 10_000_000
    for name, told in (
        ("script", SCRIPT),
        ("long", long),
        ("line", "a\r\nevent: x\n\ndata: y"),
        ("lone", "\udcff\u202e"),
    ):
        parameters = (Parameter(told, (2,), "float32", True, "0"),)
        growing = grower(root / name, told, config={told: told}, id=told, parameters=parameters).grow(10)
        growing.end(f"exception: {told}")
    (root / SCRIPT.replace("/", "_")).mkdir()
    grower(root / SCRIPT.replace("/", "_") / "run").grow(3).end()
    server = serve(root)
    with server.events("/events") as events:
        seen: dict = {}
        began = time.monotonic()
        for kind, data, _ in events:
            assert kind in ("hello", "runs", "beat")
            seen |= {run["id"]: run for run in data["runs"]} if kind == "runs" else {}
            assert all(len(text) <= 200 for run in seen.values() for text in run.values() if isinstance(text, str))
            if len(seen) == 6 or time.monotonic() - began > 60:
                break
    assert len(seen) == 6
    for digits, run in seen.items():
        code, _, body = server.get(f"/run/{digits}/")
        assert code == 200 and b"<script>document" not in body and b"<img src=x" not in body, run["place"]
        assert server.get(f"/run/{digits}/page")[0] == (503 if run["word"] == "unreadable" else 200)
    assert sum(run["word"] == "unreadable" for run in seen.values()) == 1  # the one with the long name
    assert server.process.poll() is None


DAMAGED = {
    "run.json": (b"", b"{}", b'{"format": "auscult"}', b"\xff" * 1000),
    "events.jsonl": (b"not json\n", b"\0" * 100_000, b'{"kind": 1}\n'),
    "channels.jsonl": (b"x\n", b""),
    "norms/tail-000000000000.log": (b"\xff" * 5000, b""),
    "user/tail-000000000000.log": (b"\0" * 5000, os.urandom(5000)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_the_server_survives_a_damaged_store(name, root, serve, grower) -> None:
    grower(root / "damaged").grow(20).writer.close()
    server = serve(root)
    digits = server.run_id("damaged")
    for content in DAMAGED[name]:
        file = root / "damaged" / name
        before = file.read_bytes()
        file.write_bytes(content)
        code, _, body = server.get(f"/run/{digits}/")
        assert code == 200 and (b"cannot be read" in body or b"damaged" in body or b"Missing" in body), content[:20]
        assert str(root).encode() not in body
        file.write_bytes(before)
        time.sleep(0.01)
        code, _, body = server.get(f"/run/{digits}/")
        assert code == 200 and b"cannot be read" not in body
    assert server.process.poll() is None
    assert server.get("/run/" + server.run_id("plain") + "/")[0] == 200


def test_reading_changes_nothing(root, serve) -> None:
    def snapshot() -> dict:
        return {each: each.stat().st_mtime_ns for each in root.rglob("*")}

    before = snapshot()
    server = serve(root)
    digits = server.run_id("plain")
    for target in (f"/run/{digits}/", f"/run/{digits}/page", f"/run/{digits}/points?first=1&last=50"):
        assert server.get(target)[0] == 200
    assert snapshot() == before


def test_what_only_asks_for_the_head_gets_it_and_no_stream(plain) -> None:
    digits = plain.run_id("plain")
    for target in ("/", "/events", f"/run/{digits}/", f"/run/{digits}/events", "/assets/live.js"):
        answer = ask(plain.port, target, method="HEAD")
        assert status(answer) == 200 and answer.endswith(b"\r\n\r\n"), target


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "X"])
def test_every_other_method_is_refused(plain, method) -> None:
    for target in ("/", "/events", "/run/x/", "/assets/live.js", "/nowhere"):
        headers = ("Origin: http://evil.example", "Access-Control-Request-Method: GET")
        assert status(ask(plain.port, target, *headers, method=method)) in (400, 405)
        assert b"access-control" not in ask(plain.port, target, *headers, method=method).lower()


@pytest.mark.parametrize("origin", ["null", "http://[", "http://[::1", "http://", "://", "a\tb", "http://localhost@x"])
def test_an_origin_that_is_none_is_refused(plain, origin) -> None:
    assert status(ask(plain.port, "/", f"Origin: {origin}")) == 403


def test_many_viewers_are_refused_and_the_server_goes_on(plain) -> None:
    """Of a thousand that want to see the listing two hundred do; when they are gone, others are served again."""
    several, found = [], []
    try:
        for _ in range(1000):
            connection = socket.create_connection(("127.0.0.1", plain.port), timeout=15)
            connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            several.append(connection)
            found.append(status(connection.recv(65536)))
        assert found.count(200) == 200 and found.count(503) == 800
    finally:
        for each in several:
            each.close()
    deadline = time.monotonic() + 15
    while status(ask(plain.port, "/")) != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with plain.events("/events") as events:
        assert next(events)[0] == "hello"


@pytest.mark.live
def test_who_does_not_read_loses_the_place(root, serve, grower) -> None:
    """A viewer that is told more than the buffers between hold, and reads none of it, is let go after a minute."""
    growing = grower(root / "growing", time=time.time()).grow(100)
    server = serve(root)
    digits = server.run_id("growing")
    with socket.create_connection(("127.0.0.1", server.port)) as viewer:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        viewer.sendall(f"GET /run/{digits}/page HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 3000)
        local = viewer.getsockname()[1]
        deadline = time.monotonic() + 120
        assert is_connected(server.process.pid, local)
        while is_connected(server.process.pid, local):
            assert time.monotonic() < deadline
            time.sleep(1)
    growing.end()
    assert status(ask(server.port, f"/run/{digits}/")) == 200


def is_connected(process: int, port: int) -> bool:
    """Whether the server's end of a connection is still established."""
    rows = [line.split() for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]]
    return any(int(row[2].split(":")[1], 16) == port and row[3] == "01" for row in rows)


def test_a_run_that_is_deleted_and_made_anew_while_it_is_viewed(root, serve, grower, awaited) -> None:
    grower(root / "again", time=time.time(), id="one").grow(70).writer.close()
    server = serve(root)
    digits = server.run_id("again")
    mark = server.get(f"/run/{digits}/")[2].decode().split('data-mark="')[1].split('"')[0]
    with server.events(f"/run/{digits}/events?after={mark}") as events:
        awaited(events, "condition")
        (root / "again").rename(root.parent / "put away")
        condition = awaited(events, "condition")[1]
        assert condition["word"] == "unreadable" and "its directory is gone" in condition["reason"]
        grower(root / "again", time=time.time(), id="two").grow(80).end()
        awaited(events, "anew")
        awaited(events, "page", lambda data: data["mark"].endswith(".79"))  # a look may fall between two steps
    assert server.get(f"/run/{digits}/")[2].decode().split('data-mark="')[1].split('"')[0].endswith(".79")
    (root / "again").rename(root.parent / "put away too")
    (root / "again").write_text("a file now")
    assert server.get(f"/run/{digits}/")[0] in (200, 404) and server.process.poll() is None
    assert status(ask(server.port, "/run/" + server.run_id("plain") + "/")) == 200


def test_an_address_without_a_run_is_a_page_that_says_so(plain) -> None:
    code, headers, body = plain.get("/run/0123456789abcdef/")
    assert code == 404 and headers["content-type"].startswith("text/html") and b"none at this address" in body


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_somebody_looks_it_ends_without_a_word(how, root, serve) -> None:
    server = serve(root)
    digits = server.run_id("plain")
    with server.events("/events") as listing, server.events(f"/run/{digits}/events") as run:
        assert next(listing)[0] == next(run)[0] == "hello"
        code = server.stop(how)
    assert code in (0, -how) and [line for line in server.lines if "Ctrl-C" not in line] == []
