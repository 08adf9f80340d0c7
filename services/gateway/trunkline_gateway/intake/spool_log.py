"""The spool's log: frames in segments, the files of one folder. Damage costs the frames that it hits, no other.

A frame is its segment's mark, the payload's length and CRC-32, a CRC-32 of those two, and the payload. The mark is
random and stands in the file's name: a sender cannot put it into a webhook, so no body is ever read as a frame. Its
end is inverted when the frame leaves; nothing else is ever written over.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter
from trunkline_store.sqlite.lock import FileLock

log = get_logger(__name__)

DAMAGED = counter(
    "trunkline_spool_damaged_total",
    "Damaged files of the spool, and the rows seen to be lost in them.",
    ["what"],
)
SEGMENT_BYTES = 4 << 20
# What is read at once: it is handed to the store as a whole, whose queue holds eight times as much.
READ_BYTES = 8 << 20
_NAME = re.compile(r"\d{12}-[0-9a-f]{24}\.log")
_HEAD = struct.Struct(">12sIII")
_COMMON = 8  # bytes of a mark that stay when its frame leaves
_BLOCK = 4096


@dataclass(eq=False, slots=True)
class LogFile:
    """One file: how many of its frames have not left, and their bytes."""

    path: Path
    rows: int = 0
    size: int = 0
    lost: int = 0
    read: bool = False


@dataclass(eq=False, slots=True)
class Frame:
    """A frame that has not left."""

    segment: LogFile
    at: int
    payload: bytes


def frames(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Give place and payload of a segment's frames that have not left, in order; None for a damaged stretch.

    A half-written end is passed over: nobody was told that it was kept.
    """
    (mark, left), data, at = _marks(path), _content(path), 0
    while at < len(data):
        begins = at + _HEAD.size
        half = begins > len(data)
        found, length, crc, check = (b"", 0, 0, 0) if half else _HEAD.unpack_from(data, at)
        sound = found in (mark, left) and crc32(data[at + 12 : at + 20]) == check
        half = half or (sound and begins + length > len(data))
        payload = data[begins : begins + length] if sound else b""
        if sound and not half and (found == left or crc32(payload) == crc):
            if found == mark:
                yield at, payload
            at = begins + length
            continue
        following = data.find(mark[:_COMMON], at + 1)
        if following > 0 or not (half or not any(data[at:])):  # zeros are an end that was never written
            yield at, None
        at = following if following > 0 else len(data)


class Log:
    """The folder. Made closed; for one thread at a time. Whatever touches the disk may raise OSError."""

    def __init__(self, folder: Path):
        """Nothing is touched before `open`."""
        self._folder = folder
        self._lock: FileLock | None = None
        self._segments: list[LogFile] = []
        self._waiting: dict[Frame, None] = {}  # read, and not left
        self._file = -1  # of the last segment, while it is written to
        self._number = 0
        self.rows = self.size = 0
        self.set_aside: list[Path] = []
        """Damaged segments that were read to their end since the start, kept for somebody to look at."""

    def open(self) -> None:
        """Make the folder, lock it, and count what is in it. Raises StoreLocked, StoreUnavailable."""
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        self._lock = FileLock(self._folder)
        try:
            for path in sorted(self._folder.glob("*-*.log")):
                if not _NAME.fullmatch(path.name):
                    log.warning("spool_file_unknown", file=str(path))
                    continue
                self._number = int(path.name.partition("-")[0])
                self._segments.append(LogFile(path))
                for _ in self._read(self._segments[-1]):
                    pass
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder; what is in it waits for the next `open`."""
        self._seal()
        if self._lock is not None:
            self._lock.release()
        self._lock, self._segments, self._waiting, self.rows, self.size = None, [], {}, 0, 0

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write frames; they are durable when it returns, and not there when it raises."""
        size: int | None = None
        try:
            size = self._begin()
            segment = self._segments[-1]
            mark, _ = _marks(segment.path)
            group = rest = memoryview(b"".join(_framed(mark, payload) for payload in payloads))
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            if self._file >= 0 and size is not None:
                with suppress(OSError):
                    os.ftruncate(self._file, size)
            self._seal()  # what is in a file whose write failed is not certain: the next one goes to another
            raise
        self._count(segment, len(payloads), len(group))

    def first(self, limit: int, skip: Collection[Frame]) -> list[Frame]:
        """Return the oldest frames but those in `skip`: so many at most, and one beyond READ_BYTES at most."""
        while True:
            oldest: list[Frame] = []
            room = READ_BYTES
            for frame in self._waiting:
                if len(oldest) == limit or room <= 0:
                    return oldest
                if frame not in skip:
                    oldest.append(frame)
                    room -= len(frame.payload)
            unread = next((segment for segment in self._segments if not segment.read), None)
            if len(oldest) == limit or room <= 0 or unread is None:
                return oldest
            if unread is self._segments[-1]:
                self._seal()
            self._waiting |= dict.fromkeys(self._read(unread))
            unread.read = True
            if not unread.rows:
                self._remove(unread)

    def forget(self, gone: Collection[Frame]) -> None:
        """Let frames leave; a file that has none left is removed."""
        for segment in dict.fromkeys(frame.segment for frame in gone):
            own = [frame for frame in gone if frame.segment is segment]
            for frame in own:
                del self._waiting[frame]
            self._count(segment, -len(own), -sum(_HEAD.size + len(frame.payload) for frame in own))
            if not segment.rows:
                self._remove(segment)
                continue
            _, left = _marks(segment.path)
            with segment.path.open("r+b", buffering=0) as file:
                for frame in own:
                    os.pwrite(file.fileno(), left, frame.at)

    def payloads(self) -> Iterator[bytes]:
        """Give what has not left, the oldest first."""
        for segment in self._segments:
            yield from (payload for _, payload in frames(segment.path) if payload is not None)

    def _begin(self) -> int:
        """Begin a file where that is due; return the size of the one to write to."""
        if self._lock is None:
            raise OSError(errno.EBADF, "it is closed")
        if self._file >= 0 and (size := os.fstat(self._file).st_size) < SEGMENT_BYTES:
            return size
        self._seal()
        self._number += 1
        path = self._folder / f"{self._number:012d}-{secrets.token_hex(12)}.log"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._segments.append(LogFile(path))
        entries = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(entries)
        finally:
            os.close(entries)
        return 0

    def _seal(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)
            if not self._segments[-1].rows:
                self._remove(self._segments[-1])

    def _read(self, segment: LogFile) -> Iterator[Frame]:
        """Give a segment's frames, and put its counts right at the end."""
        rows = size = lost = 0
        for at, payload in frames(segment.path):
            if payload is None:
                lost += 1
                continue
            rows, size = rows + 1, size + _HEAD.size + len(payload)
            yield Frame(segment, at, payload)
        self._count(segment, rows - segment.rows, size - segment.size)
        if lost > segment.lost:
            log.error("spool_damaged", file=str(segment.path), lost=lost)
            DAMAGED.labels("file").inc(not segment.lost)
            DAMAGED.labels("row_lost").inc(lost - segment.lost)
            segment.lost = lost

    def _remove(self, segment: LogFile) -> None:
        self._segments.remove(segment)
        if not segment.lost:
            segment.path.unlink(missing_ok=True)
            return
        self.set_aside.append(segment.path.replace(segment.path.with_suffix(".damaged")))

    def _count(self, segment: LogFile, rows: int, size: int) -> None:
        segment.rows, segment.size = segment.rows + rows, segment.size + size
        self.rows, self.size = self.rows + rows, self.size + size


def _marks(path: Path) -> tuple[bytes, bytes]:
    """Return what a segment's frames begin with, and what those that left begin with."""
    mark = bytes.fromhex(path.stem.partition("-")[2])
    return mark, mark[:_COMMON] + bytes(byte ^ 0xFF for byte in mark[_COMMON:])


def _framed(mark: bytes, payload: bytes) -> bytes:
    sizes = struct.pack(">II", len(payload), crc32(payload))
    return b"".join((mark, sizes, struct.pack(">I", crc32(sizes)), payload))


def _content(path: Path) -> bytes:
    """Return a file's bytes, with zeros where the disk cannot read them."""
    with path.open("rb", buffering=0) as file:
        size, blocks = os.fstat(file.fileno()).st_size, []
        for at in range(0, size, _BLOCK):
            try:
                blocks.append(os.pread(file.fileno(), _BLOCK, at))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                blocks.append(bytes(min(_BLOCK, size - at)))
    return b"".join(blocks)
