from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.data.augment import runs
from recon.data.store import ImageStore

SIZES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6)


def arrays(sizes, channels, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (channels, h, w), dtype=np.uint8) for h, w in sizes]


@given(sizes=SIZES, channels=st.sampled_from([1, 3]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_crop_is_numpy_slicing_for_any_mix_of_sizes(sizes, channels, data):
    images = arrays(sizes, channels)
    store = ImageStore.from_arrays(images)
    h = data.draw(st.integers(1, min(s[0] for s in sizes)))
    w = data.draw(st.integers(1, min(s[1] for s in sizes)))
    index = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=8))
    top = [data.draw(st.integers(0, sizes[i][0] - h)) for i in index]
    left = [data.draw(st.integers(0, sizes[i][1] - w)) for i in index]
    got = store.crop(torch.tensor(index), torch.tensor(top), torch.tensor(left), (h, w))
    want = np.stack([images[i][:, y : y + h, x : x + w] for i, y, x in zip(index, top, left, strict=True)])
    assert got.dtype == torch.uint8
    np.testing.assert_array_equal(got.numpy(), want)


@given(sizes=SIZES, channels=st.sampled_from([1, 3]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_gather_is_numpy_indexing(sizes, channels, data):
    images = arrays(sizes, channels)
    store = ImageStore.from_arrays(images)
    size = data.draw(st.sampled_from(sizes))
    same = [i for i, s in enumerate(sizes) if s == size]
    index = data.draw(st.lists(st.sampled_from(same), min_size=1, max_size=8))
    np.testing.assert_array_equal(store.gather(torch.tensor(index)).numpy(), np.stack([images[i] for i in index]))


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_subset_shares_the_buffer_and_keeps_order_and_repeats(data):
    images = arrays([(5, 4), (3, 7), (5, 4), (2, 2)], 3)
    store = ImageStore.from_arrays(images, [3, 1, 2, 0])
    index = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=7))
    subset = store.subset(torch.tensor(index))
    assert len(subset) == len(index)
    assert subset.buffer.data_ptr() == store.buffer.data_ptr()
    assert subset.label.tolist() == [[3, 1, 2, 0][i] for i in index]
    assert subset.uniform == (len({images[i].shape for i in index}) == 1)
    for place, i in enumerate(index):
        np.testing.assert_array_equal(subset.gather(torch.tensor([place]))[0].numpy(), images[i])


def test_a_uniform_array_and_the_list_of_its_images_make_the_same_store():
    images = np.random.default_rng(1).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    one, other = ImageStore.from_arrays(images, np.arange(5)), ImageStore.from_arrays(list(images), range(5))
    for name in ("buffer", "offset", "shape", "label"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert one.uniform
    assert one.channels == 3
    assert one.sizes.tolist() == [[4, 6]] * 5
    assert one.offset.dtype == one.shape.dtype == one.label.dtype == torch.int64


def test_a_store_owns_its_pixels_and_has_label_minus_one_by_default():
    images = np.zeros((2, 1, 3, 3), np.uint8)
    store = ImageStore.from_arrays(images)
    images[:] = 7
    assert not store.gather(torch.tensor([0, 1])).any()
    assert store.label.tolist() == [-1, -1]


def test_gather_refuses_a_mix_of_sizes():
    store = ImageStore.from_arrays(arrays([(4, 5), (5, 4)], 1))
    with pytest.raises(ValueError, match="different sizes"):
        store.gather(torch.tensor([0, 1]))


@pytest.mark.parametrize(("top", "left"), [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_crop_never_reads_beyond_its_image(top, left):
    store = ImageStore.from_arrays(arrays([(4, 5), (9, 9)], 1))
    with pytest.raises(ValueError, match="leaves its image"):
        store.crop(torch.tensor([0]), torch.tensor([top]), torch.tensor([left]), (3, 3))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ([], None),
        ([np.zeros((1, 2, 2), np.float32)], None),
        ([np.zeros((2, 2), np.uint8)], None),
        ([np.zeros((1, 2, 2), np.uint8), np.zeros((3, 2, 2), np.uint8)], None),
        ([np.zeros((1, 2, 2), np.uint8)], [1, 2]),
    ],
)
def test_what_makes_no_store_is_refused(images, labels):
    with pytest.raises(ValueError, match=r"store|labels"):
        ImageStore.from_arrays(images, labels)


def test_moving_to_the_same_device_returns_the_store_and_meta_moves_every_part():
    store = ImageStore.from_arrays(arrays([(4, 5), (9, 9)], 1))
    assert store.to("cpu") is store
    moved = store.to("meta")
    assert {moved.buffer.device.type, moved.offset.device.type, moved.shape.device.type, moved.label.device.type} == {
        "meta"
    }


@pytest.mark.gpu
def test_reading_on_cuda_equals_reading_on_the_cpu():
    store = ImageStore.from_arrays(arrays([(40, 50), (90, 70), (40, 50)], 3))
    index, top, left = torch.tensor([0, 1, 2]), torch.tensor([3, 9, 0]), torch.tensor([8, 0, 1])
    moved = store.to("cuda")
    crops = moved.crop(index.cuda(), top.cuda(), left.cuda(), (32, 40))
    assert torch.equal(crops.cpu(), store.crop(index, top, left, (32, 40)))
    same = torch.tensor([2, 0])
    assert torch.equal(moved.gather(same.cuda()).cpu(), store.gather(same))


def test_names_go_with_their_images():
    images = arrays([(2, 2), (3, 3), (4, 4)], 1)
    store = replace(ImageStore.from_arrays(images), names=np.array(["a", "b/c", "d"], object))
    subset = store.subset(torch.tensor([2, 0, 2]))
    assert subset.names.tolist() == ["d", "a", "d"]
    assert subset.to("meta").names.tolist() == ["d", "a", "d"]
    assert ImageStore.from_arrays(images).subset(torch.tensor([1])).names is None


@pytest.mark.parametrize("length", [1, 3, 10])
def test_runs_are_slices(length):
    buffer = torch.arange(10, dtype=torch.float64)
    start = torch.arange(11 - length).flip(0)
    want = torch.stack([buffer[place : place + length] for place in start.tolist()])
    assert torch.equal(runs(buffer, start, length), want)
