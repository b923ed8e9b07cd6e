"""Rendering: the page of a run as it was at one moment, made once for however many viewers."""

import gzip
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.score import Score
from auscult.live.mark import Mark
from auscult.pages.charts import Pictures, pictures
from auscult.pages.page import Page, json_text
from auscult.pages.report import report_page
from auscult.reading import examine
from auscult.sound.mappings import sonify_run

GZIP_LEVEL = 3
VOLUME = 0.25  # to begin with: what goes on by itself must not startle


@dataclass(frozen=True, slots=True, eq=False)
class Rendering:
    """The page of a run as it was at one moment.

    Attributes:
        mark: The moment.
        drawn: What its charts and heat maps show.
        page: The page.
        findings: What the rules found, worst first.
        score: What is to be heard.
        text: Title, mark, sections and data as JSON, deflated (gzip).
        took: Seconds of one core that it took to make.
    """

    mark: Mark
    drawn: Pictures
    page: Page
    findings: tuple[Finding, ...]
    score: Score
    text: bytes
    took: float


def render(run: Run, mark: Mark) -> Rendering:
    """Make the page of a run; takes as long as `auscult.report` without its sound."""
    began = time.thread_time()
    findings, ignored = examine(run)
    score = sonify_run(run, findings)
    drawn = pictures(run, findings)
    page = report_page(run, findings, [score], [each.pattern for each in ignored], VOLUME, drawn)
    text = deflated({"title": page.title, "mark": str(mark), **page.to_dict()})
    return Rendering(mark, drawn, page, tuple(findings), score, text, time.thread_time() - began)


def deflated(data: Mapping[str, Any]) -> bytes:
    """Data as strict JSON, deflated as every browser takes it."""
    return gzip.compress(json_text(data).encode(), GZIP_LEVEL, mtime=0)
