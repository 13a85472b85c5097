"""Prompts as token ids: the seam where a real vocabulary plugs in.

The default needs no vocabulary file: it cuts text as byte-pair pre-tokenizers do and hashes each piece, so that equal
text has equal ids in every process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol
from zlib import crc32

LARGEST_TOKEN_ID = 2**32 - 1

_PIECES = re.compile(r"<\|\w+\|>| ?[^\W\d_]{1,8}|\d{1,3}| ?[^\s\w]{1,3}|_+|\s+")


class Tokenizer(Protocol):
    """Anything that turns text into token ids, deterministically."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, each an unsigned 32-bit number."""
        ...


class HashingTokenizer:
    """Tokens of at most eight letters, three digits or three signs; an id is the CRC-32 of its piece."""

    def encode(self, text: str) -> list[int]:
        return [crc32(piece.encode("utf-8", "surrogatepass")) for piece in _PIECES.findall(text)]


class Message(NamedTuple):
    """One chat message with its parts already joined to text."""

    role: str
    content: str


def render_chat(messages: Iterable[Message]) -> str:
    """Return the prompt of a conversation in the simulator's fixed chat template."""
    turns = (f"<|{message.role}|>\n{message.content}<|end|>\n" for message in messages)
    return "".join(turns) + "<|assistant|>\n"
