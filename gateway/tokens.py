"""The vocabulary by which tokens are counted: cl100k_base, from the package that ships it.

It is written once beside the segment and stays there; a gateway process maps it. Letters and numbers are those of this
Python's Unicode tables, so a code point that is younger counts as neither.
"""

from __future__ import annotations

import gzip
import logging
import unicodedata
from binascii import a2b_base64
from importlib.util import find_spec
from pathlib import Path

from csrc.pieces import UNICODE, has_vocabulary, write_vocabulary

PACKAGE, FILE = "bpe_openai", "data/cl100k_base.tiktoken.gz"
BLANKS = frozenset(
    [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
)
"""Code points with the property White_Space."""

log = logging.getLogger("gateway.tokens")
_CLASSES = {"L": 1, "N": 2}


def vocabulary() -> list[bytes]:
    """The tokens in the order of their ranks; raises ValueError when the file has another order.

    The package is looked up, not imported: its library is 74 MB, and only the file is wanted.
    """
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"{PACKAGE} is not installed")
    packed = Path(found.submodule_search_locations[0], FILE).read_bytes()
    lines = gzip.decompress(packed).split(b"\n")
    tokens = [a2b_base64(line.partition(b" ")[0]) for line in lines if line]
    if lines[len(tokens) - 1].partition(b" ")[2] != b"%d" % (len(tokens) - 1):
        raise ValueError("the vocabulary is not in the order of its ranks")
    return tokens


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
