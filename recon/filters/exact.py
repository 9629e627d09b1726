"""Whether matrix products are exact."""

import torch


def exact_matmul() -> bool:
    """Return whether float32 matrix products are really float32: the user may allow bfloat16 or TF32 for speed.

    >>> exact_matmul()
    True
    """
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # torch raises when its old and new switches have both been used
        return False
