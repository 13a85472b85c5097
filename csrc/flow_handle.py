"""One request through the kernel, as a host holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csrc import _kernel
from csrc.handles import check, string
from csrc.records import End, MessageUnreadable, Outcome, Record

if TYPE_CHECKING:
    from csrc.binding import SegmentReader

_ffi: Any = _kernel.ffi
_lib: Any = _kernel.lib

OUTPUT_BYTES: int = _lib.BRIX_OUTPUT_BYTES
SMALL_MESSAGE = 128 * 1024
"""Up to here a body that the kernel changes fits the outputs that are kept."""
_allocate = _ffi.new_allocator(should_clear_after_alloc=False)


def _large(capacity: int) -> Any:
    return _allocate("char[]", capacity)


class Flow:
    """One HTTP request from its headers to its last byte. `close` must be called, once or more."""

    __slots__ = ("_handle", "_kept", "_reader", "question")

    def __init__(self, reader: SegmentReader, handle: Any) -> None:
        self._reader = reader
        self._handle = handle
        self._kept: tuple[Any, int] | None = None
        self.question: bytes | None = None

    def _live(self) -> Any:
        if self._handle is None or not self._reader.is_open:
            raise MessageUnreadable("the flow is closed")
        return self._handle

    def process(self, message: bytes) -> bytes:
        """Answer one serialized ProcessingRequest with one serialized ProcessingResponse.

        Where `question` is not None afterwards, nothing came of it yet: put it to the collector and call `answer`.
        Raises MessageUnreadable for bytes that are no such message: end the stream and close the flow.
        """
        handle, written = self._live(), _ffi.new("size_t *")
        capacity = OUTPUT_BYTES if len(message) <= SMALL_MESSAGE else OUTPUT_BYTES + 2 * len(message)
        output = self._reader.take_output() if capacity == OUTPUT_BYTES else _large(capacity)
        status = _lib.brix_flow_message(handle, message, len(message), output, capacity, written)
        if status == _lib.BRIX_ASKS:
            asked = _lib.brix_flow_question(handle)
            self._kept, self.question = (output, capacity), bytes(_ffi.unpack(asked.at, asked.length))
            return b""
        return self._taken(output, capacity, status, written)

    def answer(self, said: bytes) -> bytes:
        """What the message that had to wait is answered with, now that the collector said this; empty: not in time."""
        if self._kept is None:
            raise MessageUnreadable("nothing was asked")
        (output, capacity), written = self._kept, _ffi.new("size_t *")
        self._kept, self.question = None, None
        status = _lib.brix_flow_answer(self._live(), said, len(said), output, capacity, written)
        return self._taken(output, capacity, status, written)

    def _taken(self, output: Any, capacity: int, status: int, written: Any) -> bytes:
        try:
            check(status, "ext_proc message")
            return bytes(_ffi.buffer(output, written[0]))
        finally:
            if capacity == OUTPUT_BYTES:
                self._reader.give_output(output)

    @property
    def is_complete(self) -> bool:
        """True once the answer has been accounted."""
        if self._handle is None or not self._reader.is_open:
            return True
        return bool(_lib.brix_flow_is_complete(self._handle))

    def record(self) -> Record:
        """The request as an access log shows it."""
        raw = _ffi.new("brix_record *")
        _lib.brix_flow_record(self._live(), raw)
        return Record(
            outcome=Outcome(raw.outcome),
            code=raw.code,
            request_id=string(raw.request_id),
            model=string(raw.model),
            strategy=string(raw.strategy),
            pod=string(raw.pod),
            address=string(raw.address),
            streaming=bool(raw.streaming),
            prompt_tokens=raw.prompt_tokens,
            completion_tokens=raw.completion_tokens,
        )

    def close(self, end: End = End.STREAM) -> None:
        """Close the books, if they are open, and give the flow back. Later calls change nothing."""
        handle, self._handle = self._handle, None
        if handle is not None and self._reader.is_open:
            _lib.brix_flow_end(handle, int(end))
