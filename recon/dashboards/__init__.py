"""Where numbers and images are mirrored: W&B, TensorBoard, CSV. The run folder is the truth."""
