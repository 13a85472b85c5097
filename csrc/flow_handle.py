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


class Flow:
    """One HTTP request from its headers to its last byte. `close` must be called, once or more."""

    __slots__ = ("_handle", "_reader", "asks")

    def __init__(self, reader: SegmentReader, handle: Any) -> None:
        self._reader = reader
        self._handle = handle
        self.asks = False

    def _live(self) -> Any:
        if self._handle is None or not self._reader.is_open:
            raise MessageUnreadable("the flow is closed")
        return self._handle

    def process(self, message: bytes) -> bytes:
        """Answer one serialized ProcessingRequest with one serialized ProcessingResponse.

        Where `asks` is true afterwards, the bytes are a question for the collector instead: `answer` goes on.
        Raises MessageUnreadable for bytes that are no such message: end the stream and close the flow.
        """
        handle, written = self._live(), _ffi.new("size_t *")
        output = self._reader.take_output()
        try:
            status = _lib.brix_flow_message(handle, message, len(message), output, OUTPUT_BYTES, written)
            self.asks = status == _lib.BRIX_ASKS
            if not self.asks:
                check(status, "ext_proc message")
            return bytes(_ffi.buffer(output, written[0]))
        finally:
            self._reader.give_output(output)

    @property
    def is_complete(self) -> bool:
        """True once the answer has been accounted."""
        if self._handle is None or not self._reader.is_open:
            return True
        return bool(_lib.brix_flow_is_complete(self._handle))

    def answer(self, said: bytes) -> bytes:
        """What the message that had to wait is answered with, now that the collector said this; empty: not in time."""
        handle, written = self._live(), _ffi.new("size_t *")
        output, self.asks = self._reader.take_output(), False
        try:
            check(_lib.brix_flow_answer(handle, said, len(said), output, OUTPUT_BYTES, written), "answer to a question")
            return bytes(_ffi.buffer(output, written[0]))
        finally:
            self._reader.give_output(output)

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
