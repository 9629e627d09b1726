"""Crops that grow over a training."""

import pytest
import torch
from conftest import ROOT  # noqa: F401  puts the tests' helpers on the path
from skimage.data import camera

from recon.data.datamodule import DataModule, lengths
from recon.data.loader import Stages
from recon.data.store import ImageStore, PairLoader
from recon.data.tasks.folder import Folder
from recon.degradations import GaussianNoise
from recon.errors import InputError

STAGES = Stages.of([8, 16, 32], [0.25, 0.25, 0.5])


@pytest.fixture(scope="module")
def store():
    return ImageStore.from_arrays([camera()[None, n * 40 :][:, :40, n * 40 :][..., :50] for n in range(8)])


def loader(store, **more):
    repeated = store.subset(torch.arange(8).repeat_interleave(8))
    made = PairLoader(repeated, "train", 16, GaussianNoise(0.1), crop=8, **more)
    # Two epochs of four batches.
    made.stages = Stages(STAGES.sides, STAGES.ends, total=8, per_epoch=4)
    return made


def batches(made, epochs=(0, 1)):
    for epoch in epochs:
        made.set_epoch(epoch)
        yield from made


def test_each_stage_has_its_share_of_the_batches_and_as_many_pixels(store):
    shapes = [tuple(pair.clean.shape) for pair in batches(loader(store))]
    assert shapes == [(16, 1, 8, 8)] * 2 + [(4, 1, 16, 16)] * 2 + [(1, 1, 32, 32)] * 4
    assert loader(store).images(8) == 2 * 16 + 2 * 4 + 4
    assert loader(store).images(3) == 2 * 16 + 4


def test_a_training_that_begins_in_a_stage_sees_the_same_batches(store):
    whole, late = list(batches(loader(store))), loader(store)
    late.start = 3
    for one, other in zip(whole[3:], batches(late), strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_ranks_share_a_batch_evenly(store):
    ranks = [list(batches(loader(store, rank=rank, world_size=2))) for rank in range(2)]
    assert (
        [len(pair.clean) for pair in ranks[0]] == [len(pair.clean) for pair in ranks[1]] == [8] * 2 + [2] * 2 + [1] * 4
    )
    one = next(batches(loader(store)))
    assert torch.equal(ranks[1][0].degraded, one.degraded[1::2])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"crop": [16, 8]}, "rising sides"),
        ({"crop": []}, "rising sides"),
        ({"crop": [8, "x"]}, "rising sides"),
        ({"crop": [8, 16], "crop_share": [0.5, 0.4]}, r"sum 1 \(theirs is 0.9\)"),
        ({"crop": [8, 16], "crop_share": [1.0]}, "2 positive shares"),
        ({"crop": [8, 16], "crop_share": [1.5, -0.5]}, "positive shares"),
    ],
)
def test_stages_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        Folder("nowhere", **settings).stages  # noqa: B018


def test_a_net_of_one_size_takes_no_stages():
    with pytest.raises(InputError, match=r"task\.crop: .* several sides, and this net takes images of one size"):
        DataModule(Folder("nowhere", crop=[8, 16]), "data", GaussianNoise(0.1), None, 0, True)


class Lengths:
    """What `lengths` reads of a trainer."""

    def __init__(self, **settings):
        vars(self).update({"limit_train_batches": 1.0, "max_epochs": None, "max_steps": -1,
                           "accumulate_grad_batches": 1, **settings})  # fmt: skip


def test_the_length_of_a_training_is_what_ends_it_first():
    assert lengths(Lengths(max_epochs=3), 10) == (10, 30)
    assert lengths(Lengths(max_epochs=3, max_steps=7), 10) == (10, 7)
    assert lengths(Lengths(max_epochs=-1, max_steps=7, accumulate_grad_batches=4), 10) == (10, 28)
    assert lengths(Lengths(max_epochs=3, limit_train_batches=4), 10) == (4, 12)
    assert lengths(Lengths(max_epochs=3, limit_train_batches=0.5), 10) == (5, 15)
    with pytest.raises(InputError, match=r"trainer\.max_epochs or trainer\.max_steps"):
        lengths(Lengths(max_epochs=-1), 10)
