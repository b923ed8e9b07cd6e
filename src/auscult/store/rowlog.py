"""RowLog: the end of one stream that is still being written.

Knows nothing of tiles; it hands full tails to a sealer.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscult.core.catalogue import unit_of
from auscult.core.digest import BLOCK_STEPS, Block
from auscult.core.errors import SetupError
from auscult.core.metric import Stream
from auscult.core.sink import Channel, Rows, Values, empty_rows, row_dtype
from auscult.store.blocks import COARSE_STEPS, coarsen_blocks, digest_name, empty_values, encode_block
from auscult.store.frames import scan_frames
from auscult.store.layout import require_same_run
from auscult.store.lines import encode_line
from auscult.store.log import AppendLog
from auscult.store.sealer import Sealer, Shelf
from auscult.store.tails import TAIL_ROWS, encode_rows, list_tails, read_tail, tail_name
from auscult.store.tiles import list_tiles, read_manifest


class RowLog:
    """Appends rows and blocks of one stream.

    Args:
        directory: Of the stream; created if it does not exist, continued if it does.
        stream: Its name.
        known: Its channels so far.
        channels: Where new channels are written first.
        sealer: Who seals full tails.
        run_id: The run that the directory above must hold.

    Attributes:
        ordinal: Of the next row.
        last_step: Step of the last row; later rows must have later steps.
    """

    def __init__(
        self,
        directory: Path,
        stream: Stream,
        known: list[Channel],
        channels: AppendLog,
        sealer: Sealer,
        run_id: str,
    ) -> None:
        self._directory = directory
        self._stream: Stream = stream
        self._dtype = row_dtype(stream)
        self._index = {channel: position for position, channel in enumerate(known)}
        self._channels = channels
        self._sealer = sealer
        self._run_id = run_id
        self._shelf = Shelf(directory, stream, run_id)
        self._placed: tuple[Channel, ...] | None = None  # the columns of the last rows
        self._positions: NDArray[np.intp] | None = None  # where they belong; None: where they stand
        self._window: list[Block] = []
        self._coarse: AppendLog | None = None
        self.last_step = -1
        directory.mkdir(exist_ok=True)
        self.ordinal, self._first, self._tail = self._open_tail()
        self._digest = _reopen(directory / digest_name(BLOCK_STEPS))

    def append(self, rows: Rows) -> None:
        """Write rows, as many at once as the tail has room for.

        Raises:
            SetupError: if a step is not later than the one before; nothing is written then.
            OSError: if not all could be written; `ordinal` counts those that were.
        """
        steps = rows.steps.tolist()
        for before, step in zip([self.last_step, *steps], steps, strict=False):
            if step <= before:
                raise SetupError(
                    f"Expected `record.step` of {self._stream} to be greater than {before}, but got {step}. "
                    "A stream takes one row a step, in order."
                )
        values = self._arrange(rows)
        begin = 0
        while begin < len(steps):
            if self.ordinal - self._first == TAIL_ROWS:
                self._rotate()
            end = begin + TAIL_ROWS - (self.ordinal - self._first)
            self._tail.append(encode_rows(self.ordinal, steps[begin:end], values[begin:end]))
            self.ordinal += len(steps[begin:end])
            self.last_step = steps[begin:end][-1]
            begin = end

    def append_block(self, segment: int, block: Block, complete_from: int) -> None:
        """Write one closed block; with the first of the next 1,024 steps, the coarse block of the last ones is due.

        Args:
            segment: Ordinal of the segment it belongs to.
            block: The block.
            complete_from: Coarse blocks that begin earlier are left to the reader: parts of them are older than the
                segment.
        """
        block = self._arrange_block(block)
        self._digest.append(encode_block(segment, block))
        window = self._window
        if window and window[0].start // COARSE_STEPS != block.start // COARSE_STEPS:
            if window[0].start - window[0].start % COARSE_STEPS >= complete_from:
                self._sealer.submit(lambda: self._append_coarse(segment, window))
            self._window = []
        self._window.append(block)

    def begin_segment(self, step: int) -> None:
        """Later rows begin at a step, which may lie before the last one."""
        self.last_step = step - 1
        self._window = []

    def sync(self) -> None:
        """Wait until the rows would also survive a power failure."""
        self._tail.sync()

    def seal(self) -> None:
        """Have everything sealed that is complete, without waiting for it."""
        shelf, first = self._shelf, self._first
        self._sealer.submit(lambda: shelf.seal(first))

    def close(self) -> None:
        """No more rows will come; what is complete is sealed by the time the sealer is closed."""
        self._tail.close()
        self._digest.close()
        stop = self.ordinal if self.ordinal - self._first == TAIL_ROWS else self._first
        self._sealer.submit(lambda: self._finish(stop), wait=True)

    def _finish(self, stop: int) -> None:
        if self._coarse is not None:
            self._coarse.close()
        self._shelf.finish(stop)

    def _append_coarse(self, segment: int, blocks: list[Block]) -> None:
        if self._coarse is None:
            self._coarse = _reopen(self._directory / digest_name(COARSE_STEPS))
        self._coarse.append(encode_block(segment, coarsen_blocks(blocks)))

    def _arrange(self, rows: Rows) -> Values:
        """The values of rows at their places, `(R, C)`."""
        if rows.channels is not self._placed:
            self._positions = self._place(rows.channels)
            self._placed = rows.channels
        if rows.values.shape[1] != len(rows.channels):
            raise SetupError(
                f"Expected `record.values` of {self._stream} to hold {len(rows.channels)} values, one per channel, "
                f"but got {rows.values.shape[1]}."
            )
        values: Values = np.ascontiguousarray(rows.values, self._dtype)
        if self._positions is None:
            return values
        table = empty_rows(self._stream, len(values), len(self._index))
        table[:, self._positions] = values
        return table

    def _arrange_block(self, block: Block) -> Block:
        positions = self._place(block.channels)
        if positions is None:
            return block
        values = empty_values(self._stream, len(self._index))
        values[positions] = block.values
        return Block(block.stream, block.start, block.stop, tuple(self._index), values)

    def _place(self, channels: tuple[Channel, ...]) -> NDArray[np.intp] | None:
        """Positions of channels, None if each has its own index; new ones are written down first."""
        new = [channel for channel in channels if channel not in self._index]
        if new:
            lines = (self._line(channel, len(self._index) + index) for index, channel in enumerate(new))
            self._channels.append(b"".join(lines))
            self._index.update({channel: len(self._index) + index for index, channel in enumerate(new)})
        positions = np.fromiter((self._index[channel] for channel in channels), np.intp, len(channels))
        return None if np.array_equal(positions, np.arange(len(channels))) else positions

    def _line(self, channel: Channel, position: int) -> bytes:
        return encode_line(
            {
                "stream": self._stream,
                "position": position,
                "metric": channel.metric,
                "path": channel.path,
                "unit": unit_of(channel.metric),
            }
        )

    def _rotate(self) -> None:
        """Begin a new tail and have the full one sealed."""
        require_same_run(self._directory.parent, self._run_id)
        tail = AppendLog(self._directory / tail_name(self.ordinal), new=True)
        self._tail.close()
        self._tail, self._first = tail, self.ordinal
        self.seal()

    def _open_tail(self) -> tuple[int, int, AppendLog]:
        """Ordinal of the next row, first ordinal of the tail it goes to, and that tail."""
        tails = list_tails([each.name for each in self._directory.iterdir()])
        tiles, _ = list_tiles(self._directory, read_manifest(self._directory)[0])
        sealed = max(tiles, key=lambda each: each.stop, default=None)
        if sealed is not None:
            self.last_step = sealed.last_step
        if not tails or (sealed is not None and tails[-1] < sealed.stop):
            first = sealed.stop if sealed is not None else 0
            return first, first, AppendLog(self._directory / tail_name(first), new=True)
        first = tails[-1]
        tail = read_tail(self._directory / tail_name(first), self._stream)
        if len(tail.steps):
            self.last_step = int(tail.steps[-1])
        if tail.damage:  # its ordinals are not used again
            first += TAIL_ROWS
            return first, first, AppendLog(self._directory / tail_name(first), new=True)
        log = AppendLog(self._directory / tail_name(first))
        log.cut(tail.end)
        return first + len(tail.ordinals), first, log


def _reopen(path: Path) -> AppendLog:
    """A log of frames, without the frame that the end of the process tore off."""
    log = AppendLog(path)
    with path.open("rb", buffering=0) as file:
        found = scan_frames(file, path)
    if not found.damage:
        log.cut(found.end)
    return log
