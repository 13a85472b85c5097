"""The vocabulary by which tokens are counted: cl100k_base, from the package that ships it.

It is written once beside the segment and stays there; a gateway process maps it. Letters and numbers are those of this
Python's Unicode tables, so a code point that is younger counts as neither.
"""

from __future__ import annotations

import base64
import gzip
import logging
import unicodedata
from importlib import resources
from pathlib import Path

from csrc.pieces import UNICODE, has_vocabulary, write_vocabulary

PACKAGE, FILE = "bpe_openai.data", "cl100k_base.tiktoken.gz"
BLANKS = frozenset(
    [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
)
"""Code points with the property White_Space."""

log = logging.getLogger("gateway.tokens")
_CLASSES = {"L": 1, "N": 2}


def vocabulary() -> list[bytes]:
    """The tokens in the order of their ranks."""
    lines = gzip.decompress(resources.files(PACKAGE).joinpath(FILE).read_bytes()).splitlines()
    ranked = [(int(rank), base64.b64decode(token)) for token, rank in (line.split() for line in lines if line)]
    return [token for _, token in sorted(ranked)]


def classes() -> bytes:
    """A byte for each code point: 0 other, 1 letter, 2 number, 3 blank."""
    kinds = bytearray(_CLASSES.get(unicodedata.category(chr(point))[0], 0) for point in range(UNICODE))
    for point in BLANKS:
        kinds[point] = 3
    return bytes(kinds)


def provide(segment: Path) -> bool:
    """See to it that gateway processes can count; False when they cannot, which the log then explains."""
    try:
        if not has_vocabulary(segment):
            write_vocabulary(segment, vocabulary(), classes())
    except (OSError, ImportError, ValueError) as error:
        log.warning("event=vocabulary_missing error=%r", error)
        return False
    return True
