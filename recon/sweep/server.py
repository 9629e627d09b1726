"""What the fork server does once, so that a job forked from it trains at once: import and compose.

It starts no thread and never initialises CUDA: neither would survive in a forked process.
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

import recon.actions.evaluate
import recon.actions.train
import recon.build
import recon.config.mistyped
import recon.config.recorded
from recon.sweep.compose import Composer

# In the first composition Hydra looks for its plugins and its parser loads the grammar.
Composer()(["model=classifier", "seed=1"])
# The garbage collector of a job need not traverse the objects made so far.
gc.collect()
gc.freeze()
# A signal that the terminal sends to the sweep's processes is handled by the sweep.
os.setpgid(0, 0)
