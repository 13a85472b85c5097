"""Builds `csrc._kernel` with cffi's API mode, declarations taken from the public header.

The public headers are the one source: what stands between their cdef marks is what Python sees.
The same sources and flags make `libbrixflow.so`, which Envoy loads; it is replaced as a whole, never written while
an Envoy has it open. Run this file directly for development, or through setup.py.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from cffi import FFI

ROOM = Path(__file__).resolve().parent
ROOT = ROOM.parent
# Nobody looks at traps or errno of arithmetic; without them its loops become vectors.
ARITHMETIC_FLAGS = ["-fno-trapping-math", "-fno-math-errno"]
COMPILE_FLAGS = ["-std=c11", "-O3", *ARITHMETIC_FLAGS, "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
MODULE_FLAGS = ["-fPIC", "-shared", "-flto", "-Wl,-z,relro,-z,now", "-Wl,-soname,libbrixflow.so"]
MODULE_FILE = "libbrixflow.so"
PUBLIC = ("counted.h", "brixflow.h", "quota_writer.h")
PREAMBLE = """
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wcast-function-type"
#include "brixflow.h"
"""


def declarations() -> str:
    """The parts of the public headers between their cdef marks."""
    return "\n".join(_between_marks(ROOM / name) for name in PUBLIC)


def _between_marks(header: Path) -> str:
    found = re.search(r"/\* cdef: begin \*/(.*)/\* cdef: end \*/", header.read_text(), re.DOTALL)
    if found is None:
        raise ValueError(f"{header.name} has lost its cdef marks")
    return found.group(1)


def sources() -> list[str]:
    """Every C file of the kernel, relative to the root of the checkout."""
    return sorted(f"csrc/{path.name}" for path in ROOM.glob("*.c") if not path.name.startswith(("_", "module")))


def module_sources() -> list[str]:
    """What makes the kernel an Envoy module, relative to the root of the checkout."""
    return sorted(f"csrc/{path.name}" for path in ROOM.glob("module*.c"))


def build_module(folder: Path) -> Path:
    """Compile the Envoy module into `folder`; it finds Envoy's callbacks in the process that loads it."""
    made = folder / MODULE_FILE
    given = [*sources(), *module_sources()]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fresh = Path(scratch) / MODULE_FILE
        subprocess.run(["gcc", *COMPILE_FLAGS, *MODULE_FLAGS, "-Icsrc", *given, "-o", str(fresh)], cwd=ROOT, check=True)
        fresh.replace(made)
    return made


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
