import hashlib
import re
from importlib.resources import files

VENDOR = files("auscult.pages").joinpath("assets", "vendor")


def test_vendored_files_are_unchanged() -> None:
    table = VENDOR.joinpath("VENDORED.md").read_text("utf-8")
    expected = dict(re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", table, re.MULTILINE))
    assert set(expected) == {each.name for each in VENDOR.iterdir()} - {"VENDORED.md"}
    for name, checksum in expected.items():
        assert hashlib.sha256(VENDOR.joinpath(name).read_bytes()).hexdigest() == checksum, name


def test_the_licence_travels_with_it() -> None:
    assert "MIT License" in VENDOR.joinpath("uPlot.LICENSE").read_text("utf-8")
