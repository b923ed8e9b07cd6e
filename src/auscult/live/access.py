"""Access: who may ask for what. Decides on the head of a request alone, before anything looks at a run.

A browser on the same machine obeys any page that it has open: `Host` is checked against DNS rebinding, `Origin` and
`Sec-Fetch-Site` against requests from other pages. No page can set either, but a proxy may rewrite `Host`: where the
browser itself says that a request comes from the same page, another `Origin` is no objection. The token is compared in
constant time.
"""

import hmac
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from auscult.core.errors import SetupError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
WILDCARDS = ("0.0.0.0", "::", "")
LEAST_TOKEN = 16
MADE_BY = 'python -c "import secrets; print(secrets.token_urlsafe())"'

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src data: blob:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Every answer carries these, refusals included."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused: an HTTP status and a sentence."""

    status: Literal[400, 401, 403, 405]
    text: str


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        names: Host names by which the server may be addressed, in lower case.
        proxies: Those of them under which a proxy shows it.
        any_address: Whether every IP address will do; an address cannot be bound to another machine as a name can.
        token: What a request must know; "" where nothing is asked for.
        cookie: Name of the cookie that says so; one for each port, because cookies do not tell ports apart.
    """

    names: frozenset[str]
    proxies: frozenset[str]
    any_address: bool
    token: str
    cookie: str

    @classmethod
    def to(cls, host: str, port: int, token: str = "", allowed: Iterable[str] = ()) -> "Access":
        """The access to a server.

        Args:
            host: The address that it listens on.
            port: Its port.
            token: What a request must know; "" for none, on this machine alone.
            allowed: Further names by which a proxy passes requests on.

        Raises:
            SetupError: if the server can be reached from elsewhere without a token, or the token is too short.
        """
        local = host.lower() in LOOPBACK or host.startswith("127.")
        if not local and not token:
            raise SetupError(
                f"Expected a token, because --host {host} can be reached from other machines, but got none. "
                f'Write: --host {host} --token "$({MADE_BY})", or leave --host out and use a tunnel: docs/live.md.'
            )
        if token and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
            raise SetupError(
                f"Expected a token of at least {LEAST_TOKEN} printable ASCII characters without spaces, but got "
                f'{len(token)} characters. Write: --token "$({MADE_BY})".'
            )
        named = [*LOOPBACK, *allowed]
        if not local:
            named += [socket.gethostname()] if host in WILDCARDS else [host]
        names, proxies = (frozenset(each.lower() for each in some) for some in (named, allowed))
        return cls(names, proxies, not local, token, f"auscult-{port}")

    def refusal(self, method: str, headers: Mapping[str, str], query: str) -> Refusal | None:
        """Why a request is refused; None if it is not.

        Args:
            method: Its method.
            headers: Its headers, with names in lower case.
            query: Its query string, without the question mark.
        """
        if method not in ("GET", "HEAD"):
            return Refusal(405, "This server only shows things: GET and HEAD.")
        host = headers.get("host", "")
        if not self._knows(host):
            return Refusal(403, "This server is not addressed by that name. `auscult live --allow-host NAME` adds one.")
        if self._is_from_elsewhere(headers):
            return Refusal(403, "Requests from other pages are refused.")
        if self.token and not self._is_known(headers, query):
            return Refusal(401, "A token is needed. Open the address that `auscult live` printed, token included.")
        return None

    def brings_token(self, query: str) -> bool:
        """Whether the query has the right token in it, so that a cookie is due."""
        return bool(self.token) and self._is_token(_token_in(query))

    @property
    def proof(self) -> str:
        """The value of the cookie: it shows that its owner knew the token, and does not tell it."""
        return hmac.new(self.token.encode(), b"auscult live", sha256).hexdigest()

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if any(each in host for each in "/@?# \\") or not name:
            return False
        return name in self.names or (self.any_address and _is_address(name))

    def _is_from_elsewhere(self, headers: Mapping[str, str]) -> bool:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in ("cross-site", "same-site"):
            return origin is not None or headers.get("sec-fetch-mode") != "navigate"
        if origin is None or site == "same-origin":
            return False
        try:
            page = urlsplit(origin)
        except ValueError:
            return True
        return page.netloc.lower() != headers.get("host", "").lower() and page.hostname not in self.proxies

    def _is_known(self, headers: Mapping[str, str], query: str) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        by_header = scheme.lower() == "bearer" and self._is_token(given.strip())
        by_cookie = any(
            hmac.compare_digest(value.strip().encode(), self.proof.encode())
            for name, _, value in (each.partition("=") for each in headers.get("cookie", "").split(";"))
            if name.strip() == self.cookie
        )
        return by_header or by_cookie or self._is_token(_token_in(query))

    def _is_token(self, given: str) -> bool:
        """Compared as digests of one length, so that the time taken tells nothing."""
        return hmac.compare_digest(
            sha256(given.encode("utf-8", "surrogatepass")).digest(), sha256(self.token.encode()).digest()
        )


def _token_in(query: str) -> str:
    try:
        return parse_qs(query, max_num_fields=8).get("token", [""])[0]
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
