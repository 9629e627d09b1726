"""Draw the README's picture of a training from what it prints: `python docs/recording.py <picture> [key=value ...]`."""

import io
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).absolute().parents[1]
_SHOWN = 2  # epochs at the start and at the end


def output_of(words: list[str]) -> list[str]:
    """Return the lines that `python run.py` prints into a pipe in an empty folder, of the epochs the outer ones."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "run.py"), *words]
        printed = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = printed.replace(f"{folder}/", "").replace(f"{Path(folder).resolve()}/", "").splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    left_out = set(epochs[_SHOWN:-_SHOWN])
    return ["…" if line == epochs[_SHOWN] else line for line in lines if line not in left_out or line == epochs[_SHOWN]]


def draw(words: list[str]) -> str:
    """Return an SVG of a terminal with a command and its output, that loads no font from elsewhere."""
    console = Console(record=True, width=92, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {shlex.join(['python', 'run.py', *words])}", "bold green"))
    for line in output_of(words):
        console.print(Text(line, "dim" if line.startswith(("epoch", "…")) else ""), soft_wrap=False)
    console.print()  # else a clip cuts the underscores of the last line
    return re.sub(r"\s*@font-face \{.*?\}", "", console.export_svg(title="recon"), flags=re.DOTALL)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(sys.argv[2:]), "utf-8")
