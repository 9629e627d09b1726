"""What a terminal cannot take, or that nobody reads it any more, ends no command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUICK, ROOT, type_in

# No UTF-8 anywhere.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


@pytest.mark.slow
def test_a_training_goes_on_without_a_reader_and_without_utf8(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "run.py"), "model=autoencoder", "hydra.run.dir='Größe'", *QUICK]
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, **ASCII}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"model: ")
        child.stdout.close()  # as `| head -1` does
        assert child.stderr is not None
        errors = child.stderr.read()
    assert child.returncode == 0, errors
    assert b"Traceback" not in errors
    assert json.loads((tmp_path / "Größe" / "environment.json").read_text("utf-8"))["status"] == "ok"

    listed = type_in("action=list", f"runs={tmp_path}/*", **ASCII)
    assert listed.returncode == 0, listed.stderr
    assert "  psnr " in listed.stdout
    assert "\\xd7" in type_in("--help", **ASCII).stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_lines_without_a_reader_lead_nowhere(stream: str, unbuffered: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom recon.streams import make_lasting\nmake_lasting()\n"
        f"for line in range(3):\n    print('×' * 9999, file=sys.{stream}, flush=True)\n"
        "open('done', 'w').write('')"
    )
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False, **{stream: write})
    os.close(write)
    assert done.returncode == 0
    assert (tmp_path / "done").exists()
