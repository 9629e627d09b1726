"""What the fork server does once, so that a job forked from it can begin to train at once: import and compose.

It makes no thread and never touches CUDA: neither would live in a forked process.
"""

# ruff: noqa: F401
import gc
import os

import lightning.pytorch.loggers
import PIL.Image
import PIL.ImageDraw
import PIL.PngImagePlugin
import rich.console
import rich.table
import sklearn.datasets
import torch
import torchmetrics
import wandb
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import recon
import recon.actions.evaluate
import recon.actions.train
import recon.build
import recon.config.help
import recon.config.recorded
from recon.config.conf import CONF

# Hydra looks for its plugins and its parser learns the grammar in the first composition.
with initialize_config_dir(str(CONF), version_base="1.3"):
    compose("config", ["model=classifier", "seed=1"])
GlobalHydra.instance().clear()
# The collector of a job need not look through what was here before it.
gc.collect()
gc.freeze()
# A signal that the terminal sends to the sweep's processes is the sweep's to handle.
os.setpgid(0, 0)
