"""Start-up check that our top-level packages are really ours.

`models`, `serving` or `components` are common names. When another distribution, or a folder that
stands earlier on `sys.path`, has a package of the same name, Python takes that one and the failure
shows far from its cause. The command line calls `check_not_shadowed()` before anything else.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

TOP_LEVEL_PACKAGES = ("schemas", "beam_jobs", "models", "serving", "components", "pipeline")


class ShadowedPackageError(ImportError):
    """Another package stands in for one of ours."""


def check_not_shadowed(
    packages: Sequence[str] = TOP_LEVEL_PACKAGES, home: Path | None = None
) -> None:
    """Raise `ShadowedPackageError` if a package of ours resolves to a folder that is not ours.

    Args:
        packages: names to check.
        home: folder that holds all of them; by default the one that holds this `schemas`.
    """
    expected_home = (home or Path(__file__).parent.parent).resolve()
    problems = []
    for name in packages:
        expected = expected_home / name
        found = _location(name)
        if found is None:
            problems.append(f"  {name}: not found; expected in {expected}")
        elif found != expected:
            problems.append(f"  {name}: Python takes {found}, not {expected}")
    if problems:
        raise ShadowedPackageError(
            "packages of Lengthwise are hidden by others of the same name:\n"
            + "\n".join(problems)
            + "\nUninstall or rename the other package (pip list --verbose shows where each "
            "distribution lies), unset PYTHONPATH if it names that folder, or run from another "
            "directory. If a package is missing, install Lengthwise again."
        )


def _location(name: str) -> Path | None:
    """The folder (or file) that `import name` would take."""
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(name)
    except ValueError:
        # A module put into sys.modules by hand has no spec.
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None
