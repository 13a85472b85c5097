"""The figures of the README: one script a figure, run together by `make bench`."""
