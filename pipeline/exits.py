"""Exit codes of the command line."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAULT = 1
EXIT_BAD_INPUT = 2
EXIT_REFUSED = 3
