"""Prompts as token ids and back: the seam where a real vocabulary plugs in.

The default needs no vocabulary file. It cuts text as byte-pair pre-tokenizers do, about one token a short word, and
writes the characters of each piece into the id itself, so that equal text has equal ids in every process and ids turn
back into the text they came from.

    00 | code point                          any single character; unused numbers decode to U+FFFD
    01 | 4 x 7 bits                          up to four ASCII characters
    1  | space? | 6 x 5 bits                 up to six small letters, with or without a space before them
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

LARGEST_TOKEN_ID = 2**32 - 1
REMEMBERED_PIECES = 1 << 16

_PIECES = re.compile(
    r" ?[a-z]{1,6}| ?[A-Z][a-z]{1,2}|[A-Z]{1,4}|[0-9]{1,3}| ?[!-/:-@\[-`{-~]{1,3}|[\t\n\r ]{1,4}|.", re.DOTALL
)
_SMALL_WORD = re.compile(r" ?[a-z]{1,6}")
_LETTERS = 0x80000000
_SPACED = 0x40000000
_ASCII = 0x40000000
_LARGEST_CODE_POINT = 0x10FFFF


class Tokenizer(Protocol):
    """Anything that turns text into token ids, deterministically, and back."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, each an unsigned 32-bit number."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`; what stands for no text becomes U+FFFD or nothing."""
        ...


class _Numbers(dict[str, int]):
    """Piece to id; new pieces are computed, and remembered while there is room."""

    def __missing__(self, piece: str) -> int:
        number = pack(piece)
        if len(self) < REMEMBERED_PIECES:
            self[piece] = number
        return number


class PackedTokenizer:
    """Ids that hold their own text."""

    def __init__(self) -> None:
        self._numbers = _Numbers()

    def encode(self, text: str) -> list[int]:
        return list(map(self._numbers.__getitem__, _PIECES.findall(text)))

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(unpack, tokens))


def pack(piece: str) -> int:
    """Return the id of one piece: a small word, up to four ASCII characters, or one character."""
    if _SMALL_WORD.fullmatch(piece):
        word = piece.lstrip(" ")
        number = 0
        for letter in word:
            number = number << 5 | ord(letter) - 96
        return _LETTERS | (_SPACED if len(word) < len(piece) else 0) | number
    if len(piece) == 1:
        return ord(piece)
    number = 0
    for character in piece:
        number = number << 7 | ord(character)
    return _ASCII | number


def unpack(token: int) -> str:
    """Return the text of one id."""
    if token & _LETTERS:
        word = _digits(token & 0x3FFFFFFF, 5)
        return (" " if token & _SPACED else "") + "".join(chr(96 + letter) for letter in word)
    if token & _ASCII:
        return "".join(map(chr, _digits(token & 0x3FFFFFFF, 7)))
    return chr(token) if token <= _LARGEST_CODE_POINT else "\ufffd"


def _digits(number: int, bits: int) -> list[int]:
    digits: list[int] = []
    while number:
        digits.append(number & (1 << bits) - 1)
        number >>= bits
    return digits[::-1]


class VocabularyTokenizer:
    """A tokenizer of another package behind this interface."""

    def __init__(self, encoding: _Encoding) -> None:
        self._encoding = encoding

    def encode(self, text: str) -> list[int]:
        encoded = self._encoding.encode(text)
        return list(getattr(encoded, "ids", encoded))

    def decode(self, tokens: Sequence[int]) -> str:
        try:
            return self._encoding.decode(list(tokens))
        except Exception:
            return "\ufffd" * len(tokens)


class _Encoding(Protocol):
    def encode(self, text: str, /) -> list[int]: ...

    def decode(self, tokens: list[int], /) -> str: ...


def load_tokenizer(name: str) -> Tokenizer:
    """Return the tokenizer called `packed`, `cl100k`, or kept in a Hugging Face `tokenizer.json` at that path.

    Raises ValueError when its package or file is missing.
    """
    if name == "packed":
        return PackedTokenizer()
    try:
        if name == "cl100k":
            return VocabularyTokenizer(import_module("bpe_openai").get_encoding("cl100k_base"))
        path = Path(name)
        file = path / "tokenizer.json" if path.is_dir() else path
        return VocabularyTokenizer(import_module("tokenizers").Tokenizer.from_file(str(file)))
    except Exception as error:
        raise ValueError(f"no tokenizer {name!r}: {error}") from error


class Message(NamedTuple):
    """One chat message with its parts already joined to text."""

    role: str
    content: str


def render_chat(messages: Iterable[Message], *, answer_follows: bool = True) -> str:
    """Return the prompt of a conversation in the simulator's fixed chat template."""
    turns = (f"<|{message.role}|>\n{message.content}<|end|>\n" for message in messages)
    return "".join(turns) + ("<|assistant|>\n" if answer_follows else "")
