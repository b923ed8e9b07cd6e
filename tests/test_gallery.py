"""Every case of the clinic has its page with picture, sound and diagnosis, and the command makes one anew."""

import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auscult.clinic.cases import CASES
from auscult.rules.registry import RULES

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "clinic"
SIZE = 6_000_000  # bytes of the whole folder
SOUND_SIZE = 150_000


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, after its signature and the head of its first chunk."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def sections(page: Path) -> dict[str, str]:
    """Heading to text."""
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, str]:
    """The folder and what was printed where a case that needs no names and one that does are asked for."""
    folder = tmp_path_factory.mktemp("clinic")
    (folder / "gone.md").write_text("a case of former times")
    command = [sys.executable, "-m", "scripts.gallery", "sgd-1.0", "deep-tanh", "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return folder, done.stdout


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_a_page_with_its_three_parts(name: str) -> None:
    page = PAGES / f"{name}.md"
    found = sections(page)
    assert list(found) == ["Picture", "Sound", "Diagnosis"]
    assert f"![{name} over " in found["Picture"] and f"]({name}.png)" in found["Picture"]
    width, height = picture_size(PAGES / f"{name}.png")
    assert width == 1280 and height > 800
    assert f"[Listen]({name}.mp3)" in found["Sound"]
    told = float(re.findall(r": ([\d.]+) seconds\.", found["Sound"])[0])
    samples, rate = soundfile.read(PAGES / f"{name}.mp3")
    assert 10 <= told <= 20 and abs(len(samples) / rate - told) < 0.1
    assert np.isfinite(samples).all() and 0.01 < np.abs(samples).max() < 1
    assert (PAGES / f"{name}.mp3").stat().st_size < SOUND_SIZE
    assert f"\n{name}: " in found["Diagnosis"]
    assert f"auscult clinic run {name}" in page.read_text(encoding="utf-8")


def test_the_folder_holds_nothing_but_the_index_and_the_three_files_of_each_case() -> None:
    expected = {"README.md", *(f"{name}{suffix}" for name in CASES for suffix in (".md", ".png", ".mp3"))}
    assert {each.name for each in PAGES.iterdir()} == expected
    assert sum(each.stat().st_size for each in PAGES.iterdir()) < SIZE


def test_the_index_names_every_case_with_the_verdict_of_its_page() -> None:
    rows = re.findall(
        r"^\| \[([^]]+)\]\(([^)]+)\) \| (.+) \| (.+) \| (.+) \|$", (PAGES / "README.md").read_text(), re.M
    )
    assert [name for name, *_ in rows] == list(CASES)
    for name, page, about, verdict, _ in rows:
        assert page == f"{name}.md" and about == CASES[name].about
        assert f"\n**Verdict:** {verdict}\n" in (PAGES / page).read_text(encoding="utf-8")


def test_every_link_leads_somewhere_and_no_page_knows_a_machine() -> None:
    anchors = {f"#{each.code.lower()}-{each.name}" for each in RULES}
    for page in PAGES.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for link in links(text):
            target, hash_, anchor = link.partition("#")
            assert (PAGES / target).exists() and hash_ + anchor in {"", *anchors}, link
        assert not re.search(r"(?<![\w.])/\w+/\w+|20\d\d-\d\d-\d\d", text.replace("</audio>", "")), page.name


def test_the_command_makes_a_page_says_what_it_left_out_and_removes_what_is_gone(made) -> None:
    folder, said = made
    assert {each.name for each in folder.iterdir()} == {"README.md", "sgd-1.0.md", "sgd-1.0.png", "sgd-1.0.mp3"}
    assert "names.txt" in said and said.rstrip().endswith("deep-tanh.") and "removed gone.md" in said
    assert "Critical" in sections(folder / "sgd-1.0.md")["Diagnosis"]
    assert "[sgd-1.0](sgd-1.0.md)" in (folder / "README.md").read_text()


def test_the_sound_says_that_the_network_is_dead(made) -> None:
    """At the end of sgd-1.0 the early layers are exactly zero: a tone of 131 Hz and nothing else."""
    folder, _ = made
    assert "131 Hz that means exactly 0" in sections(folder / "sgd-1.0.md")["Sound"]
    samples, rate = soundfile.read(folder / "sgd-1.0.mp3")
    end = samples[-4 * rate : -rate].mean(axis=1)
    spectrum = np.abs(np.fft.rfft(end * np.hanning(len(end)))) ** 2
    frequencies = np.fft.rfftfreq(len(end), 1 / rate)
    near = np.abs(frequencies - 130.8) < 5
    assert spectrum[near].sum() > 0.95 * spectrum.sum()
