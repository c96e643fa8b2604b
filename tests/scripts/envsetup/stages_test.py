from __future__ import annotations

import os
from pathlib import Path

import pytest
from envsetup import stages
from envsetup.common import Refusal


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("cause: dns error: failed to lookup", "registry could not be reached"),
        ("E: Failed to fetch http://x Could not connect", "registry could not be reached"),
        ("invalid peer certificate: UnknownIssuer", "certificate is not trusted"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("The following signatures: NO_PUBKEY 6ED0E7B8", "signature could not be verified"),
        ("something else entirely", "something else entirely"),
    ],
)
def test_a_failed_tool_is_explained(output: str, words: str) -> None:
    text = stages.explain("installing", output, Path("/x/setup.log"))
    assert words in text
    assert text.startswith("installing failed:")
    assert "/x/setup.log" in text


def test_a_failing_stage_says_failed_and_keeps_the_output_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = stages.Stages(tmp_path / "setup.log")
    with pytest.raises(Refusal, match="trying failed"), runner.stage("try"):
        runner.run(["sh", "-c", "echo broken thing; exit 3"], "trying", os.environ)
    assert "failed" in capsys.readouterr().out
    assert "broken thing" in (tmp_path / "setup.log").read_text(encoding="utf-8")


def test_what_redirects_python_is_kept_from_the_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    environment = stages.clean_environment(EXTRA="1")
    assert "PYTHONPATH" not in environment
    assert environment["HTTPS_PROXY"] == "http://proxy.example"
    assert environment["EXTRA"] == "1"
