"""The part of the build that pyproject.toml cannot say: the C kernel, once through cffi and once as Envoy's module."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class BuildBoth(build_ext):  # type: ignore[misc] # setuptools has no annotations
    """`_kernel` and, beside it, `libbrixflow.so`."""

    def run(self) -> None:
        """Build both; the module lands where the extension does."""
        super().run()
        folder = ROOT / "csrc" if self.inplace else Path(self.build_lib).resolve() / "csrc"
        folder.mkdir(parents=True, exist_ok=True)
        runpy.run_path(str(ROOT / "csrc" / "build_binding.py"))["build_module"](folder)


setup(cffi_modules=["csrc/build_binding.py:builder"], cmdclass={"build_ext": BuildBoth})
