import json
from zlib import crc32

import pytest

from auscult.store.lines import decode_object, encode_line, encode_object, read_lines


def test_a_line_is_json_and_carries_its_checksum():
    line = encode_line({"kind": "end", "path": "säge\n", "loss": float("nan")})
    assert line.count(b"\n") == 1
    stored = json.loads(line)
    before = line[: line.rindex(b', "crc32"')]
    assert stored == {"kind": "end", "path": "säge\n", "loss": "nan", "crc32": f"{crc32(before):08x}"}
    assert decode_object(line[:-1]) == {"kind": "end", "path": "säge\n", "loss": "nan"}


@pytest.mark.parametrize("indent", [None, 2])
def test_every_flipped_bit_is_seen(indent):
    text = encode_object({"step": 3, "deep": {"list": [1, 2.5, None, True]}}, indent)
    for place in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[place] ^= 1 << bit
            assert decode_object(bytes(flipped)) is None


def test_torn_and_damaged_lines(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = [encode_line({"step": step}) for step in range(3)]
    whole = b"".join(lines)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        read = read_lines(path)
        complete = whole[:size].count(b"\n")
        assert (len(read.objects), read.damage, read.end) == (complete, (), len(b"".join(lines[:complete])))
    path.write_bytes(lines[0] + b"?" + lines[1] + lines[2][:-1] + b"\x0b")
    read = read_lines(path)
    assert read.objects == ({"step": 0},)
    assert [message.split(" of ")[0] for message in read.damage] == ["Expected line 2", "Expected line 3"]


def test_a_missing_file_holds_nothing(tmp_path):
    assert read_lines(tmp_path / "events.jsonl").objects == ()
