"""Debian packages, fetched and unpacked without touching the system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from envsetup.common import Refusal
from envsetup.host import os_release
from envsetup.stages import Stages, clean_environment

DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


class AptArchive:
    """Downloads packages with lists and caches of its own; apt checks their signatures.

    Args:
        stages: runs the tools.
        folder: where the lists and caches go.
        release: a Debian release to read from this machine's Debian mirror; None for whatever
            this machine is set up with.
    """

    def __init__(self, stages: Stages, folder: Path, release: str | None = None) -> None:
        self.stages = stages
        self.folder = folder
        self.release = release

    def unpack(self, names: Sequence[str], into: Path) -> None:
        """Download packages and unpack them into a folder."""
        for name in ("lists/partial", "cache/archives/partial", "state", "debs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        if self.release:
            self._write_sources(self.release)
        # Without --error-on, apt only warns when a mirror cannot be reached.
        update = ["apt-get", *self._options(), "update", "--error-on=any"]
        self.stages.run(update, "reading apt's package lists", clean_environment())
        downloads = self.folder / "debs"
        self.stages.run(
            ["env", "-C", downloads, "apt-get", *self._options(), "download", *names],
            f"fetching {', '.join(names)}",
            clean_environment(),
        )
        into.mkdir(parents=True, exist_ok=True)
        for deb in sorted(downloads.glob("*.deb")):
            self.stages.run(["dpkg-deb", "-x", deb, into], f"unpacking {deb.name}", os.environ)
            deb.unlink()

    def _write_sources(self, release: str) -> None:
        fields = "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI) $(SIGNED_BY)"
        targets = self.stages.run(
            ["apt-get", "indextargets", "--no-release-info", "--format", fields],
            "reading apt's sources",
            os.environ,
        )
        uri, key = choose_mirror(targets, os_release().get("VERSION_CODENAME", ""))
        source = f"deb [arch=amd64 signed-by={key}] {uri} {release} main\n"
        (self.folder / "sources.list").write_text(source, encoding="utf-8")

    def _options(self) -> list[str]:
        options: dict[str, str | Path] = {
            "Dir::State": self.folder / "state",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            # As root, apt drops to a user that may not write in the checkout.
            "APT::Sandbox::User": "root" if os.geteuid() == 0 else "_apt",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        if self.release:
            options |= {
                "Dir::Etc::SourceList": self.folder / "sources.list",
                "Dir::Etc::SourceParts": "/dev/null",
                "Dir::Etc::Preferences": "/dev/null",
                "Dir::Etc::PreferencesParts": "/dev/null",
                "APT::Default-Release": "",
                "APT::Architecture": "amd64",
                "APT::Architectures": "amd64",
            }
        return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def choose_mirror(targets: str, codename: str) -> tuple[str, str]:
    """Archive address and key file from `apt-get indextargets`, for this machine's own release."""
    for line in targets.splitlines():
        fields = line.split()
        if fields[:3] != ["Packages", "main", codename]:
            continue
        key = fields[4] if len(fields) > 4 and fields[4].startswith("/") else DEBIAN_KEYS
        if not Path(key).is_file():
            raise Refusal(
                f"the Debian archive's keys ({key}) are not on this machine, and unsigned "
                "packages are not taken. Install debian-archive-keyring."
            )
        return fields[3], key
    raise Refusal(
        f"apt is not set up with a main archive for Debian {codename or '(unknown release)'}, so "
        "there is no mirror to fetch a newer C library from. Check /etc/apt/sources.list."
    )
