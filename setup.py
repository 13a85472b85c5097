"""The part of the build that pyproject.toml cannot say: the C kernel is built through cffi."""

from setuptools import setup

setup(cffi_modules=["csrc/build_binding.py:builder"])
