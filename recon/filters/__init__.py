"""What degradations, metrics and baselines share: resizing, convolution, exact products; plain torch."""
