"""The examples run as they are: `make examples`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True,
        timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_there_are_five_and_the_first_is_short() -> None:
    assert len(EXAMPLES) == 5
    text = EXAMPLES[0].read_text()
    assert len(text.splitlines()) <= 42
    assert "hydra" not in text.replace("Hydra", "")
    assert "lightning" not in text.replace("Lightning", "")
