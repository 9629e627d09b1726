"""From clean images on disk to batches of pairs."""
