"""A degradation of one's own: a class, a YAML, and RECON_TRUST."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
(folder / "mine.py").write_text('''"""Own degradations."""

from torch import Tensor

from recon.degradations import Degradation, Degraded
from recon.degradations.base import all_known


class Fade(Degradation):
    """Multiply the image by `factor`."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        return Degraded(clean * self.factor, all_known(clean), clean.new_full((len(clean),), self.factor))
''')
(folder / "myconf" / "degradation").mkdir(parents=True)
(folder / "myconf" / "degradation" / "fade.yaml").write_text("# a darker image\n_target_: mine.Fade\nfactor: 0.5\n")
words = ["--config-dir", "myconf", "model=restoration", "degradation=fade", "degradation.factor=0.3"]
words += ["trainer.max_epochs=1", "logger=none"]
environment = {**os.environ, "RECON_TRUST": "mine"}
subprocess.run([sys.executable, "-m", "recon", *words], cwd=folder, env=environment, check=True)
