"""Train a classifier, test it under more and more noise, list the results."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())


def recon(*words: str) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "recon", *words, "logger=none"], cwd=folder, check=True)


recon("model=classifier", "trainer.max_epochs=8", "hydra.run.dir=trained")
for sigma in (0.1, 0.3, 0.6):
    test = f"noise-{sigma}"
    recon("action=evaluate", "run=trained", "degradation=noise", f"degradation.sigma={sigma}", f"hydra.run.dir={test}")
    accuracy = json.loads((folder / test / "metrics.json").read_text())["test/accuracy"]
    print(f"noise {sigma}: {accuracy:.1%} right")
