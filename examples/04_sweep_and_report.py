"""Two losses, two seeds, one report."""

import subprocess
import sys
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
words = ["model=autoencoder", "model/loss=mse,l1", "seed=1,2", "trainer.max_epochs=2", "logger=none", "sweep.jobs=2"]
subprocess.run([sys.executable, "-m", "recon", "-m", *words], cwd=folder, check=True)
(page,) = folder.glob("outputs/*/*_sweep/report.html")
print(f"{page}: {page.stat().st_size >> 10} kB")
