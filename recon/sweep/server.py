"""What the fork server imports once, so that a job forked from it can begin to train at once.

It makes no thread and never touches CUDA: neither would live in a forked process.
"""

# ruff: noqa: F401
import os

import hydra.core.plugins
import lightning.pytorch.loggers
import rich.console
import rich.table
import torch
import torchmetrics
import wandb

import recon.actions.evaluate
import recon.actions.finished
import recon.actions.train
import recon.build
import recon.help

# A signal that the terminal sends to the sweep's processes is the sweep's to handle.
os.setpgid(0, 0)
