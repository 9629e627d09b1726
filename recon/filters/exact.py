"""Whether matrix products are exact."""

import torch


def exact_matmul() -> bool:
    """Whether float32 matrix products are really float32: the user may allow bfloat16 or TF32 for speed."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # torch refuses to tell when its old and new switches have both been used
        return False
