import socket

import pytest

from auscult.core.errors import SetupError
from auscult.live.access import HEADERS, Access

TOKEN = "correct-horse-battery"
LOCAL = Access.to("127.0.0.1", 8765)
NAMED = Access.to("127.0.0.1", 8765, "", ["lab.example.org"])
OPEN = Access.to("0.0.0.0", 8765, TOKEN)
ONE = Access.to("lab.example.org", 8765, TOKEN)
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("access", "host", "status"),
    [
        (LOCAL, "localhost:8765", None),
        (LOCAL, "LOCALHOST:9999", None),  # the near end of a tunnel has a port of its own
        (LOCAL, "127.0.0.1:8765", None),
        (LOCAL, "127.0.0.1", None),
        (LOCAL, "[::1]:8765", None),
        (LOCAL, "", 403),
        (LOCAL, "evil.example", 403),
        (LOCAL, "evil.example:8765", 403),
        (LOCAL, "localhost.evil.example", 403),
        (LOCAL, "127.0.0.1.evil.example", 403),
        (LOCAL, "evil.example@localhost", 403),
        (LOCAL, "localhost@evil.example", 403),
        (LOCAL, "localhost/evil", 403),
        (LOCAL, "localhost#", 403),
        (LOCAL, "[::1", 403),
        (LOCAL, "[::ffff:127.0.0.1", 403),
        (LOCAL, "10.0.0.1:8765", 403),
        (LOCAL, "lab.example.org", 403),
        (NAMED, "lab.example.org", None),
        (NAMED, "lab.example.org:443", None),
        (NAMED, "other.example.org", 403),
        (OPEN, "10.0.0.1:8765", None),  # an address cannot be rebound
        (OPEN, "[2001:db8::1]:8765", None),
        (OPEN, socket.gethostname(), None),
        (OPEN, "evil.example", 403),
        (ONE, "lab.example.org:8765", None),
        (ONE, "evil.example", 403),
    ],
)
def test_by_which_name_the_server_may_be_addressed(access, host, status) -> None:
    refusal = access.refusal("GET", {"host": host, **BEARER}, "")
    assert (refusal and refusal.status) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"origin": "http://localhost:8765"}, None),
        ({"origin": "https://localhost:8765"}, None),  # a proxy that ends TLS
        ({"origin": "http://localhost:9999"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:8765.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, None),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, None),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, None),  # a link to the page
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),  # another port of this machine
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://lab:8080", "sec-fetch-site": "same-origin"}, None),  # a proxy that rewrites Host
        ({"origin": "http://lab:8080", "sec-fetch-site": "none"}, 403),
        ({"origin": "http://localhost:8765", "sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        ({"origin": "http://["}, 403),
    ],
)
def test_requests_from_other_pages_are_refused(headers, status) -> None:
    refusal = LOCAL.refusal("GET", {"host": "localhost:8765", **headers}, "")
    assert (refusal and refusal.status) == status


def test_a_proxy_that_was_named_may_rewrite_the_host() -> None:
    """Over plain HTTP a browser does not say whether it is the same page."""
    for origin, status in (
        ("http://lab.example.org", None),
        ("https://LAB.example.org:8443", None),
        ("http://evil.example", 403),
        ("http://lab.example.org.evil.example", 403),
        ("http://localhost:3000", 403),
    ):
        refusal = NAMED.refusal("GET", {"host": "127.0.0.1:8765", "origin": origin}, "")
        assert (refusal and refusal.status) == status, origin


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", ""])
def test_nothing_can_be_asked_for_but_to_be_shown_something(method) -> None:
    assert LOCAL.refusal(method, {"host": "localhost"}, "").status == 405
    assert LOCAL.refusal("HEAD", {"host": "localhost"}, "") is None


@pytest.mark.parametrize(
    ("headers", "query", "known"),
    [
        ({}, "", False),
        ({}, f"token={TOKEN}", True),
        ({}, f"x=1&token={TOKEN}", True),
        ({}, f"token={TOKEN}x", False),
        ({}, f"token={TOKEN[:-1]}", False),
        ({}, "token=", False),
        ({}, "token=x&token=" + TOKEN, False),
        ({}, "&".join(f"a{n}=1" for n in range(10_000)) + f"&token={TOKEN}", False),
        ({}, "token=%00%ff" + "a" * 10_000_000, False),
        (BEARER, "", True),
        ({"authorization": f"bearer  {TOKEN} "}, "", True),
        ({"authorization": f"Basic {TOKEN}"}, "", False),
        ({"authorization": TOKEN}, "", False),
        ({"authorization": "Bearer \udcff"}, "", False),
        ({"authorization": "Bearer "}, "", False),
        ({"cookie": f"auscult-8765={OPEN.proof}"}, "", True),
        ({"cookie": f"a=b; auscult-8765={OPEN.proof}; c=d"}, "", True),
        ({"cookie": f"auscult-8766={OPEN.proof}"}, "", False),
        ({"cookie": f"auscult-8765={TOKEN}"}, "", False),  # the cookie is not the token
        ({"cookie": "auscult-8765="}, "", False),
        ({"cookie": ";;;==="}, "", False),
    ],
)
def test_the_token(headers, query, known) -> None:
    refusal = OPEN.refusal("GET", {"host": "127.0.0.1", **headers}, query)
    assert (refusal is None) == known and (known or refusal.status == 401)
    assert TOKEN not in OPEN.proof


def test_without_a_token_nothing_listens_for_other_machines() -> None:
    for host in ("0.0.0.0", "::", "", "192.168.1.5", "lab.example.org", "localhost.evil.example"):
        with pytest.raises(SetupError, match="token_urlsafe"):
            Access.to(host, 8765)
    for token in ("short", "a" * 15, "with spaces in the middle", "line\nbreak" * 3, "ünïcödé" * 4):
        with pytest.raises(SetupError, match="at least 16"):
            Access.to("127.0.0.1", 8765, token)


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    policy = dict(each.split(" ", 1) for each in HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not any(word in HEADERS["content-security-policy"] for word in ("unsafe", "http", "*"))
