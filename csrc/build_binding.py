"""Builds `csrc._kernel` with cffi's API mode, declarations taken from the public header.

The header is the one source: what stands between its cdef marks is what Python sees.
Run it directly for development, or through the cffi hook of setup.py.
"""

import re
import subprocess
import sys
from pathlib import Path

from cffi import FFI

ROOM = Path(__file__).resolve().parent
ROOT = ROOM.parent
COMPILE_FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
PREAMBLE = """
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wcast-function-type"
#include "brixflow.h"
"""


def declarations() -> str:
    """The part of the public header between its cdef marks."""
    header = (ROOM / "brixflow.h").read_text()
    found = re.search(r"/\* cdef: begin \*/(.*)/\* cdef: end \*/", header, re.DOTALL)
    if found is None:
        raise ValueError("brixflow.h has lost its cdef marks")
    return found.group(1)


def sources() -> list[str]:
    """Every C file of this room but the generated one, relative to the root of the checkout."""
    return sorted(f"csrc/{path.name}" for path in ROOM.glob("*.c") if not path.name.startswith("_"))


def describe() -> FFI:
    """The extension as cffi wants to see it."""
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        "csrc._kernel",
        PREAMBLE,
        sources=sources(),
        include_dirs=["csrc"],
        depends=sorted(f"csrc/{path.name}" for path in ROOM.glob("*.h")),
        extra_compile_args=COMPILE_FLAGS,
    )
    return ffi


builder = describe()

if __name__ == "__main__":
    subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=ROOT, check=True)
