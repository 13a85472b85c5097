"""Where the kernel as an Envoy module lies, for those who start an Envoy."""

from pathlib import Path

NAME = "brixflow"
"""What Envoy's configuration calls it; the file is lib<NAME>.so."""

FOLDER = Path(__file__).resolve().parent
"""What ENVOY_DYNAMIC_MODULES_SEARCH_PATH must name."""

FILE = FOLDER / f"lib{NAME}.so"
SEARCH_PATH = "ENVOY_DYNAMIC_MODULES_SEARCH_PATH"
