"""Training by Lightning: its patches, callbacks, trainer, signals and what a run costs."""
