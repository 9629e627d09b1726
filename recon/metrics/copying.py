"""Whether generated images are copies of training images, beside how near test images come to them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.stats import hypergeom
from torch import Tensor

from recon.metrics.distribution import nearest

_TAIL = 0.05  # of all distances: the share of the smallest ones, among which copies are


class Copying(NamedTuple):
    """What the distances to the nearest training images show.

    Attributes:
        p: how likely as many generated images among the nearest are, were they like test images.
        share: of generated images among the nearest; of as many of both kinds 0.5 is expected.
        closest: (M,) indices of the generated images, that nearest to a training image first.
        training: (M,) the index of the training image nearest to each of these.
    """

    p: float
    share: float
    closest: Tensor
    training: Tensor


def copying(train: Tensor, test: Tensor, fake: Tensor) -> Copying:
    """Test whether generated images lie nearer to training images than test images do.

    Of the distances to the nearest training image, those of test and of generated images together, the smallest 5 % are
    looked at: how many of them are of generated images has a hypergeometric distribution if both kinds are alike, which
    is that of all permutations (Fisher's exact test). All distances together would not show it: a generator may copy
    some images and make others that are like nothing.

    Args:
        train: (K,D) features of the training images.
        test: (N,D) of images that the generator was not trained on.
        fake: (M,D) of generated images.
    """
    of_test, _ = nearest(test, train)
    of_fake, index = nearest(fake, train)
    both = torch.cat([of_test, of_fake])
    # With equal distances, as of images that occur twice, they are all among the smallest.
    limit = both.kthvalue(max(1, round(_TAIL * len(both)))).values
    near, near_fake = int((both <= limit).sum()), int((of_fake <= limit).sum())
    p = float(hypergeom.sf(near_fake - 1, len(both), len(fake), near))
    closest = of_fake.argsort(stable=True)
    return Copying(p, near_fake / near, closest, index[closest])
