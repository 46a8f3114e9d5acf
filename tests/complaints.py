"""What a command says of a user's mistake."""

import pytest


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on the error stream."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("rddm: "), lines
    return lines[0]
