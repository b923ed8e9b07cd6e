import numpy as np
import pytest

from auscult.core.errors import StoreError
from auscult.store.frames import HEADER, encode_frame, read_payload, scan_frames
from auscult.store.log import AppendLog

PAYLOADS = [bytes(np.random.default_rng(n).integers(0, 256, 40, np.uint8)) for n in range(5)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "some.log"
    log = AppendLog(path, new=True)
    for payload in PAYLOADS:
        log.append(encode_frame(payload))
    log.close()
    return path


def read(path):
    with path.open("rb", buffering=0) as file:
        found = scan_frames(file, path, lead=4)
        return [read_payload(file, path, frame) for frame in found.frames], found


def test_payloads_are_read_back(path):
    payloads, found = read(path)
    assert payloads == PAYLOADS
    assert [frame.lead for frame in found.frames] == [payload[:4] for payload in PAYLOADS]
    assert found.end == path.stat().st_size == 5 * (HEADER.size + 40)


def test_a_torn_end_is_no_damage(path):
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        payloads, found = read(path)
        assert payloads == PAYLOADS[: size // 52]
        assert (found.damage, found.end) == ((), size // 52 * 52)


def test_zeros_behind_the_end_are_no_damage(path):
    """What some filesystems leave of appends that a power failure interrupted."""
    path.write_bytes(path.read_bytes() + bytes(5000))
    payloads, found = read(path)
    assert (payloads, found.damage, found.end) == (PAYLOADS, (), 5 * 52)


def test_a_damaged_header_costs_one_frame(path):
    data = bytearray(path.read_bytes())
    data[2 * 52 + 1] ^= 16
    path.write_bytes(data)
    payloads, found = read(path)
    assert payloads == PAYLOADS[:2] + PAYLOADS[3:]
    assert found.damage == (f"Expected a frame at byte 104 of {path}, but its checksum does not fit.",)


def test_a_damaged_payload_is_never_returned(path):
    data = bytearray(path.read_bytes())
    data[52 + HEADER.size] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="byte 64 of"):
        read(path)


def test_a_log_is_not_taken_over(path):
    with pytest.raises(FileExistsError):
        AppendLog(path, new=True)
