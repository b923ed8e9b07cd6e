"""A real Chromium, pages in it that may neither complain nor reach beyond themselves, and reports of real trainings."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright
from tests.live.conftest import Server
from torch import Tensor, nn

import auscult

NAMES = ("chromium", "chromium-browser", "google-chrome")
HEIGHT = 900
READBACK = """{
  const { getContext } = HTMLCanvasElement.prototype;
  HTMLCanvasElement.prototype.getContext = function (kind, options) {
    return getContext.call(this, kind, { ...options, willReadFrequently: true });
  };
}"""
"""Tests look at the pixels of canvases, of which Chromium warns where it was not announced."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium of this machine, headless."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail(
            f"Expected a browser under one of the names {', '.join(NAMES)}, but found none. "
            "These tests look at pages in a real one; on Debian write: apt-get install chromium"
        )
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--autoplay-policy=document-user-activation-required"]
        )


@dataclass
class Visits:
    """Opens pages, and keeps what they complained of and what they asked of others.

    Attributes:
        browser: Where pages are opened, each in a context of its own.
        tolerated: A pattern of complaints that are meant, as those about a server that the test has killed.
        complaints: Errors and warnings of the console, exceptions, dialogs, and requests that left the page.
    """

    browser: Browser
    tolerated: str = r"(?!)"
    complaints: list[str] = field(default_factory=list)

    def open(
        self,
        url: str,
        *,
        width: int = 1280,
        height: int = HEIGHT,
        scheme: Any = "light",
        motion: Any = "no-preference",
        ready: str = "html.drawn",
        headers: dict[str, str] | None = None,
        script: str = "",
    ) -> Page:
        """A page, as soon as an element that matches `ready` is there; `script` runs in it before its own."""
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion=motion,
            extra_http_headers=headers or {},
        )
        self._listen(context, url)
        context.add_init_script(script)
        page = context.new_page()
        page.add_init_script(READBACK)
        page.goto(url)
        page.wait_for_selector(ready, state="attached")
        return page

    def close(self) -> None:
        """End every page; what it says while it ends counts too."""
        for context in self.browser.contexts:
            context.close()

    def _listen(self, context: BrowserContext, url: str) -> None:
        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning", "assert"):
                self._complain(f"console {message.type}: {message.text}")

        def on_request(request: Request) -> None:
            if not _stays(request.url, url):
                self._complain(f"request: {request.method} {request.url[:200]}")

        context.on("console", on_console)
        context.on("request", on_request)
        context.on("weberror", lambda error: self._complain(f"exception: {error.error}"))
        context.on("dialog", lambda dialog: (self._complain(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _complain(self, text: str) -> None:
        if not re.search(self.tolerated, text):
            self.complaints.append(text)


def _stays(requested: str, url: str) -> bool:
    """Whether a request is for the page itself, for its own server, or for bytes that the page carries."""
    own, asked = urlsplit(url), urlsplit(requested)
    if asked.scheme in ("data", "blob"):
        return True
    if own.scheme == "file":
        return requested.partition("#")[0] == url.partition("#")[0]
    return (asked.scheme, asked.netloc) == (own.scheme, own.netloc)


def wait_until(page: Page, holds: str) -> None:
    """Until an expression is true; a live page's policy forbids the browser's own way of asking again and again."""
    deadline = time.monotonic() + 20
    while not page.evaluate(holds):
        assert time.monotonic() < deadline, holds
        page.wait_for_timeout(50)


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Opens pages; the test fails if one of them complains, or asks anything of anyone but its own server."""
    several = Visits(browser)
    yield several
    several.close()
    assert not several.complaints, "\n".join(several.complaints)


class Deep(nn.Module):
    """Five hundred small layers one after the other: a thousand parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(500))

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = inputs + 0.05 * torch.tanh(layer(inputs))
        return inputs


class Hostile(nn.Module):
    """Layers whose names are attacks; torch allows every character in a name but the dot."""

    def __init__(self) -> None:
        super().__init__()
        for name in HOSTILE:
            self.add_module(name.replace(".", "_"), nn.Linear(4, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.children():
            inputs = torch.tanh(layer(inputs))
        return inputs


HOSTILE = (
    "</script><script>alert(1)</script>",
    "a\"b'c` onmouseover=alert(1) x=",
    "<img src=x onerror=alert(1)>",
    "слой 🎧",
    "line\nbreak\u2028sep\u2029",
    "\x1b[31mred\x00\u202egnp",
    "x" * 3000,
    "]]>&amp;<!--",
    "__proto__",
    "%s%n../../etc/passwd",
)


def perceptron(*widths: int) -> nn.Sequential:
    layers = [each for n, m in pairwise(widths) for each in (nn.Linear(n, m), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def train(
    path: Path,
    model: nn.Module,
    steps: int,
    lr: float,
    inputs_at: Callable[[int, Tensor], Tensor],
    objective: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss,
    names: tuple[str, ...] = ("train/loss",),
    **options: Any,
) -> Path:
    """An ordinary training on a task that one layer can solve; `inputs_at(step, batch)` may spoil batches."""
    torch.manual_seed(0)
    first = next(model.parameters()).shape[1]
    goal = torch.randn(first, 4)
    for each in model.parameters():
        nn.init.xavier_uniform_(each) if each.ndim > 1 else nn.init.zeros_(each)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with auscult.watch(model, optimizer, path, **options) as monitor:
        for step in range(steps):
            batch = torch.randn(32, first)
            outputs = model(inputs_at(step, batch))
            loss = objective(outputs, torch.tanh(batch @ goal))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(dict.fromkeys(names, loss))
    return path


def unspoilt(step: int, batch: Tensor) -> Tensor:
    return batch


def nan_from_40(step: int, batch: Tensor) -> Tensor:
    return batch * torch.nan if step >= 40 else batch


def named(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mistake of giving probabilities to a loss that takes logits."""
    return nn.functional.cross_entropy(outputs.softmax(1), targets.argmax(1))


def train_named(name: str, folder: Path) -> Path:
    """One of the runs that the pages are tried with."""
    if name == "healthy":
        return train(folder / name, perceptron(16, 32, 32, 4), 300, 0.1, unspoilt, config={"lr": 0.1})
    if name == "exploding":
        return train(folder / name, perceptron(16, 32, 4), 130, 7.0, lambda step, batch: 1.05**step * batch)
    if name == "nan":
        return train(folder / name, perceptron(16, 32, 32, 4), 120, 0.1, nan_from_40)
    if name == "one-step":
        return train(folder / name, perceptron(16, 32, 4), 1, 0.1, unspoilt)
    if name == "wide":
        return train(folder / name, Deep(), 48, 0.1, nan_from_40, every=(1, 8))
    if name == "probabilities":
        return train(folder / name, perceptron(16, 32, 4), 200, 0.1, unspoilt, named)
    assert name == "hostile"
    config = dict.fromkeys(HOSTILE, HOSTILE[0])
    return train(folder / HOSTILE[2], Hostile(), 80, 3.0, nan_from_40, names=HOSTILE, config=config)


RUNS = ("healthy", "exploding", "nan", "one-step", "wide", "hostile")


@pytest.fixture(scope="session")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run of `RUNS`, trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("runs")
    return cache(lambda name: train_named(name, folder))


@pytest.fixture(scope="session")
def report_url(run_path: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The address of the report of such a run, on disk, as a user opens it."""
    folder = tmp_path_factory.mktemp("reports")
    return cache(lambda name: auscult.report(auscult.load(run_path(name)), folder / f"{name}.html").as_uri())


@pytest.fixture(scope="session")
def live_server(run_path: Callable[[str], Path]) -> Iterator[Server]:
    """`auscult live` over the folder of these runs."""
    server = Server(run_path("healthy").parent)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def live_url(run_path: Callable[[str], Path], live_server: Server) -> Callable[[str], str]:
    """The address of the live page of such a run."""
    return lambda name: f"http://127.0.0.1:{live_server.port}/run/{live_server.run_id(run_path(name).name)}/"


@pytest.fixture(params=["report", "live"])
def page_url(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The address of the page of such a run: once its report, once its live page."""
    return request.getfixturevalue(f"{request.param}_url")
