"""Train, compare and use neural networks that restore, compress, generate and recognise images."""

__version__ = "0.1.0"
