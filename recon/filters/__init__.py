"""Resizing, convolution and banded matrices for degradations, metrics and baselines; plain torch."""
