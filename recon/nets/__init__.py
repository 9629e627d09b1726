"""Plain `torch.nn.Module` networks, one file per architecture; none knows of Lightning or Hydra."""
