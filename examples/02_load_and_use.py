"""Train by the command line, then use the model in Python."""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

import recon

run = Path(tempfile.mkdtemp()) / "run"
words = ["model=restoration", "degradation=salt_pepper", "trainer.max_epochs=2", "logger=none", f"hydra.run.dir={run}"]
subprocess.run([sys.executable, "-m", "recon", *words], check=True)

model = recon.load(run)
digit = Image.fromarray((load_digits().images[0] * 15).astype("uint8"))
restored = model(digit)
print(f"trained on images of {model.facts['image_size']}; {digit.size} -> {restored.size}, {restored.mode}")
assert restored.size == digit.size
