"""Where things are, and how set-up refuses."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(os.environ.get("LENGTHWISE_VENV") or ROOT / ".venv").resolve()
REQUIREMENTS = ROOT / "requirements"

GIB = 1024**3


class Refusal(Exception):
    """The host cannot be served; the text is the whole message the user sees."""
