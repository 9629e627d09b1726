"""A set in tar shards: each sample once, the same pair however it is read, and no command from a stranger's config."""

import io
import os
import re
import sys
import tarfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import ExifTags, Image
from skimage.data import astronaut
from sklearn.datasets import load_digits

from recon import keyed
from recon.data.augment import Augment
from recon.data.images import read_image
from recon.data.loader import make_pair
from recon.data.shards import ShardLoader
from recon.data.tasks.webdataset import WebDataset
from recon.degradations.base import Chain
from recon.degradations.missing import MissingPixels
from recon.degradations.noise import GaussianNoise
from recon.errors import InputError
from recon.pair import Pair

wds = pytest.importorskip("webdataset")

DEFAULTS = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "task" / "webdataset.yaml"))
assert DEFAULTS.pop("_target_") == "recon.data.tasks.webdataset.WebDataset"
DAMAGE = Chain({"noise": GaussianNoise(sigma=(0.05, 0.2)), "missing": MissingPixels(fraction=0.3)})
PARTS = ("train", "validation", "test")
COUNT = 150
DIGITS = (load_digits().images[:COUNT] * 255 / 16).round().astype(np.uint8)
LABELS = load_digits().target[:COUNT]
PHOTO = np.ascontiguousarray(astronaut()[40:88, 180:240])  # 48 rows, 60 columns


def encode(array: np.ndarray, suffix: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, {"jpg": "jpeg"}.get(suffix, suffix), **options)
    return file.getvalue()


def write_shard(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(number: int, image: np.ndarray | None = None) -> dict[str, bytes]:
    return {
        f"digit/{number:04d}.png": encode(DIGITS[number] if image is None else image),
        f"digit/{number:04d}.cls": str(LABELS[number]).encode(),
        f"digit/{number:04d}.json": b"{}",
    }


def write_set(folder: Path, cuts: tuple[int, ...]) -> Path:
    """Write the digits to shards that end at the given samples, which need not be of one length."""
    for shard, (first, last) in enumerate(zip((0, *cuts[:-1]), cuts, strict=True)):
        files = {name: data for number in range(first, last) for name, data in sample(number).items()}
        write_shard(folder / f"{shard:03d}.tar", files)
    return folder


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("seven"), (40, 45, 80, 81, 110, 130, COUNT))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("two"), (90, COUNT))


def shard_task(path: Path | str, **settings: Any) -> WebDataset:
    path = f"{path}/*.tar" if isinstance(path, Path) else path
    small = {"path": path, "validation": 0.2, "test_fraction": 0.2, "num_classes": 10, "shuffle": 20}
    return WebDataset(**{**DEFAULTS, **small, **settings})


def loader(task: WebDataset, split: str, batch_size: int = 8, **how: object) -> ShardLoader:
    return ShardLoader(getattr(task.load(Path()), split), split, batch_size, DAMAGE, **how)  # type: ignore[arg-type]


def ranks(task: WebDataset, split: str, world_size: int, **how: object) -> list[ShardLoader]:
    return [loader(task, split, rank=rank, world_size=world_size, **how) for rank in range(world_size)]


def order(batches: Iterator[Pair] | ShardLoader) -> list[list[int]]:
    return [pair.index.tolist() for pair in batches]


def rows(*loaders: ShardLoader) -> dict[int, Pair]:
    """The pairs of one pass over all of some loaders, by index; no index comes twice, and the lengths are true."""
    passes = [list(one) for one in loaders]
    assert list(map(len, passes)) == list(map(len, loaders))
    found = [
        (int(pair.index[n]), Pair(*(field[n] for field in pair)))
        for batches in passes
        for pair in batches
        for n in range(len(pair.index))
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def assert_same(one: dict[int, Pair], other: dict[int, Pair]) -> None:
    for index in one.keys() & other.keys():
        for name, left, right in zip(Pair._fields, one[index], other[index], strict=True):
            assert torch.equal(left, right), f"{name} of sample {index}"


def indices(task: WebDataset, split: str) -> set[int]:
    return {int(index) for shard in getattr(task.load(Path()), split).indices for index in shard}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_each_sample_once_and_the_same_pair(
    seven: Path, two: Path, world_size: int, workers: int
) -> None:
    """Also with fewer shards than ranks times workers, and with other cuts between the shards."""
    one = rows(loader(shard_task(seven), "validation"))
    for place in (seven, two):
        task = shard_task(place, workers=workers)
        shares = ranks(task, "validation", world_size, batch_size=3 * world_size)
        found = rows(*shares)
        assert found.keys() == one.keys() == indices(task, "validation")
        assert_same(one, found)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_training_sees_each_sample_once_but_for_the_last_batch(
    seven: Path, two: Path, world_size: int, workers: int
) -> None:
    for place in (seven, two):
        task = shard_task(place, workers=workers)
        everything = indices(task, "train")
        whole = rows(loader(shard_task(seven), "train", batch_size=len(everything)))
        assert whole.keys() == everything
        shares = ranks(task, "train", world_size, batch_size=12)
        found = rows(*shares)
        steps = len(everything) // 12
        assert list(map(len, shares)) == [steps] * world_size
        assert len(found) == 12 * steps
        assert_same(whole, found)


def test_the_order_is_a_function_of_seed_and_epoch(seven: Path) -> None:
    train = loader(shard_task(seven, workers=2), "train")
    first, again = order(train), order(train)
    train.set_epoch(1)
    second = order(train)
    train.set_epoch(0)
    assert first == again == order(train) == order(loader(shard_task(seven, workers=2), "train"))
    assert first[0] != second[0]
    assert first != order(loader(shard_task(seven, workers=2), "train", seed=1))
    assert order(loader(shard_task(seven), "validation")) == order(loader(shard_task(seven), "validation", seed=1))


def test_the_buffer_shuffles_and_zero_keeps_the_order_of_the_shards(two: Path) -> None:
    stored = [int(index) for shard in shard_task(two).load(Path()).train.indices for index in shard]  # type: ignore[attr-defined]
    for shuffle, kept in ((0, True), (20, False)):
        found = [
            index for batch in order(loader(shard_task(two, shuffle=shuffle), "train", batch_size=1)) for index in batch
        ]
        assert sorted(found) == sorted(stored)
        next_in_store = dict(pairwise(stored))
        in_order = sum(next_in_store.get(one) == other for one, other in pairwise(found))
        assert (in_order > 0.9 * len(found)) == kept
        assert kept or in_order < 0.2 * len(found)


def test_the_last_batch_does_not_leave_out_the_same_samples_always(two: Path) -> None:
    train = loader(shard_task(two), "train", batch_size=12)
    found = [rows(train).keys() for epoch in range(3) if train.set_epoch(epoch) is None]
    assert len(found[0]) < len(train.source) == len(set().union(*found))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_goes_on_with_any_batch_and_then_with_whole_epochs(seven: Path, workers: int) -> None:
    batches = loader(shard_task(seven, workers=workers), "train")
    whole = order(batches)
    for start in (1, len(whole) - 1):
        batches.start = start
        assert order(batches) == whole[start:]
        assert order(batches) == whole


def test_the_global_generator_is_left_as_it_was(seven: Path) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    next(iter(loader(shard_task(seven, workers=2), "train")))
    assert torch.equal(state, torch.get_rng_state())


def test_pairs_are_those_of_the_sample_name(seven: Path) -> None:
    """Written anew from the digits: the index from the name, the crop and the damage from the index."""
    from recon.data.samples import hashed

    task = shard_task(seven, crop=5)
    augment = Augment(flip=True)
    train = loader(task, "train", crop=5, seed=7, augment=augment)
    train.set_epoch(2)
    found = rows(train)
    numbers = {hashed(f"digit/{number:04d}", "index"): number for number in range(COUNT)}
    assert found.keys() <= numbers.keys()
    for index, pair in found.items():
        digit, key = DIGITS[numbers[index]], keyed.keys(7, "train", 2, torch.tensor([index]))
        top, left = (int(keyed.integers(keyed.fold(key, side), 4)) for side in ("top", "left"))
        window = torch.from_numpy(digit[top : top + 5, left : left + 5].copy())[None, None]
        label = torch.tensor([LABELS[numbers[index]]])
        want = make_pair(window, label, torch.tensor([index]), key, augment, DAMAGE)
        assert_same({index: pair}, {index: Pair(*(field[0] for field in want))})


def test_the_splits_are_disjoint_and_do_not_hang_on_the_shards(seven: Path, two: Path) -> None:
    parts = [indices(shard_task(seven), part) for part in PARTS]
    assert parts == [indices(shard_task(two), part) for part in PARTS]
    assert sum(map(len, parts)) == len(set().union(*parts)) == COUNT
    # 0.2 of 150 for test and 0.2 of the rest for validation, within 4 standard deviations.
    assert abs(len(parts[2]) - 30) < 20
    assert abs(len(parts[1]) - 24) < 18
    assert [len(part) for part in shard_task(seven).load(Path())] == list(map(len, parts))


def test_separate_test_shards_are_all_of_test(seven: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "test.tar", sample(3) | sample(5))
    task = shard_task(seven, test=f"{tmp_path}/test.tar")
    assert len(indices(task, "test")) == 2
    assert len(indices(task, "train") | indices(task, "validation")) == COUNT
    with pytest.raises(InputError, match=r"000\.tar is in both task\.path and task\.test"):
        shard_task(seven, test=f"{seven}/000.tar")


def test_the_library_s_own_writer_and_ways_of_naming_shards(tmp_path: Path) -> None:
    with wds.ShardWriter(f"{tmp_path}/train-%03d.tar", maxcount=40, verbose=0) as writer:
        for number in range(COUNT):
            writer.write({"__key__": f"{number:05d}", "png": DIGITS[number], "cls": int(LABELS[number])})
    patterns = (
        f"{tmp_path}/train-{{000..003}}.tar",
        f"{tmp_path}/train-*.tar",
        f"{tmp_path}/train-00{{0,1}}.tar::{tmp_path}/train-00[23].tar",
    )
    pairs = [rows(*(loader(shard_task(pattern), part) for part in PARTS)) for pattern in patterns]
    assert len(pairs[0]) > COUNT - 8
    for other in pairs[1:]:
        assert_same(pairs[0], other)
    # As it must be typed on the command line.
    override = OverridesParser.create().parse_override('task.path="shards/train-{000..003}.tar"')
    assert override.value() == "shards/train-{000..003}.tar"


def test_compressed_shards_are_read(tmp_path: Path) -> None:
    files = {name: data for number in range(60) for name, data in sample(number).items()}
    write_shard(tmp_path / "plain" / "0.tar", files)
    write_shard(tmp_path / "0.tar.gz", files)
    one, other = (rows(loader(shard_task(p), "validation")) for p in (tmp_path / "plain", f"{tmp_path}/0.tar.gz"))
    assert one.keys() == other.keys()
    assert_same(one, other)


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Give a function that serves a folder on this machine and tells its URL."""
    servers = []

    def start(folder: Path) -> str:
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(which("curl") is None, reason="the library reads URLs through curl")
def test_remote_shards_give_the_same_pairs(seven: Path, serve: Callable[[Path], str], tmp_path: Path) -> None:
    address = serve(seven)
    remote = loader(shard_task(f"{address}/{{000..006}}.tar", workers=2), "validation")
    assert_same(rows(loader(shard_task(seven), "validation")), rows(remote))
    with pytest.raises(InputError, match=r"^http://[^\n]+/nothing\.tar cannot be read [^\n]+curl: exit 22[^\n]+\.$"):
        shard_task(f"{address}/nothing.tar").load(Path())
    cut = write_shard(tmp_path / "cut.tar", sample(0) | sample(1))
    cut.write_bytes(cut.read_bytes()[:1500])
    with pytest.raises(InputError, match=r"^http://[^\n]+/cut\.tar cannot be read [^\n]+\.$"):
        shard_task(f"{serve(tmp_path)}/cut.tar").load(Path())


@pytest.mark.parametrize("scheme", ["pipe", "PIPE", "ais", "gs", "hf", "file", "scp", " pipe"])
@pytest.mark.parametrize("key", ["path", "test"])
def test_no_config_runs_a_command(seven: Path, tmp_path: Path, scheme: str, key: str) -> None:
    trace = tmp_path / "trace"
    settings = {key: f"{seven}/000.tar::{scheme}:touch {trace}; cat {seven}/001.tar"}
    with pytest.raises(InputError, match=rf"^task\.{key}=[^\n]+ asks for {scheme.strip().lower()}:[^\n]+\.$"):
        shard_task(**{"path": seven, **settings})
    assert not trace.exists()


def test_a_file_whose_name_is_a_command_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glob may find what nobody typed."""
    monkeypatch.chdir(tmp_path)
    shard = write_shard(tmp_path / "0.tar", {name: data for n in range(30) for name, data in sample(n).items()})
    shard.rename("pipe:touch trace.tar")
    task = shard_task("*.tar")
    assert sum(map(len, task.load(Path()))) == 30
    assert rows(loader(task, "test"))
    assert [path.name for path in tmp_path.iterdir()] == ["pipe:touch trace.tar"]


@pytest.mark.parametrize("pattern", ["nowhere/*.tar", "nowhere/{000..003}.tar", "-", "", "nowhere::"])
def test_shards_that_are_not_there_are_one_sentence(pattern: str) -> None:
    with pytest.raises(InputError, match=r"^task\.path: [^\n]*matches no file: [^\n]+\.$"):
        shard_task(pattern)


def test_a_name_of_the_environment_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^task\.path=[^\n]+ cannot be expanded [^\n]+\.$"):
        shard_task("${NOWHERE}/0.tar")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"validation": 5}, r"task\.validation=5"),
        ({"test_fraction": 1.0}, r"task\.test_fraction=1\.0"),
        ({"workers": -1}, r"task\.workers=-1"),
        ({"shuffle": -1}, r"task\.shuffle=-1"),
        ({"num_classes": -1}, r"task\.num_classes=-1"),
        ({"channels": 2}, r"task\.channels=2"),
        ({"max_pixels": 0}, r"task\.max_pixels=0"),
        ({"on_bad_image": "cry"}, r"task\.on_bad_image=cry"),
        ({"label": None}, r"task\.label=None"),
    ],
)
def test_bad_settings_are_one_sentence(seven: Path, settings: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=rf"^{text} [^\n]+\.$"):
        shard_task(seven, **settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_labels_are_checked_and_left_alone_without_classes(seven: Path, workers: int) -> None:
    labels = {int(pair.label) for pair in rows(loader(shard_task(seven), "test")).values()}
    assert labels <= set(range(10))
    assert len(labels) > 3
    assert {int(p.label) for p in rows(loader(shard_task(seven, num_classes=0), "test")).values()} == {-1}
    for settings, text in (
        ({"num_classes": 3}, r"task\.num_classes=3"),
        ({"label": "json"}, "json"),
        ({"label": "x"}, "x"),
    ):
        task = shard_task(seven, workers=workers, **settings)
        with pytest.raises(InputError, match=rf"^/[^\n]+\.tar/digit/\d+\.png has the class [^\n]*{text}[^\n]+\.$"):
            list(loader(task, "train"))


CUTS = {"in a file": 700, "at the end of a file": 1024, "in a header": 1024 + 100, "before the end's mark": None}


@pytest.mark.parametrize("cut", CUTS)
def test_a_truncated_shard_is_named(seven: Path, tmp_path: Path, cut: str) -> None:
    whole = write_shard(tmp_path / "cut.tar", {f"{n}.png": encode(DIGITS[n]) for n in range(3)}).read_bytes()
    assert len(encode(DIGITS[0])) < 512  # a header and one block for each file
    (tmp_path / "cut.tar").write_bytes(whole[: CUTS[cut] or 3 * 1024])
    with pytest.raises(InputError, match=r"^[^\n]+/cut\.tar cannot be read to its end [^\n]+\.$"):
        shard_task(f"{seven}/*.tar::{tmp_path}/cut.tar").load(Path())


def test_what_is_no_tar_file_is_named(seven: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar"
    garbled = bytearray(write_shard(bad, sample(0) | sample(1)).read_bytes())
    garbled[1024 + 10 : 1024 + 200] = b"?" * 190
    for data in (b"", b"<html>not found</html>" * 100, bytes(garbled)):
        bad.write_bytes(data)
        with pytest.raises(InputError, match=r"^[^\n]+/bad\.tar cannot be read to its end [^\n]+\.$"):
            shard_task(f"{seven}/*.tar::{bad}").load(Path())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_changes_on_the_way_is_named(tmp_path: Path, workers: int) -> None:
    write_set(tmp_path, (75, COUNT))
    train = loader(shard_task(tmp_path, workers=workers), "train")
    shard = tmp_path / "001.tar"
    whole = shard.read_bytes()
    write_shard(shard, {name: data for number in range(75, 80) for name, data in sample(number).items()})
    with pytest.raises(InputError, match=r"^[^\n]+/001\.tar does not hold [^\n]+\.$"):
        list(train)
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"^[^\n]+/001\.tar (cannot be read|does not hold) [^\n]+\.$"):
        list(train)
    shard.unlink()
    with pytest.raises(InputError, match=r"^[^\n]+/001\.tar cannot be read [^\n]+\.$"):
        list(train)


def test_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", sample(0) | sample(1))
    write_shard(tmp_path / "1.tar", sample(1) | sample(2))
    with pytest.raises(InputError, match=r"^[^\n]+0\.tar and [^\n]+1\.tar hold samples of one name, 1 in [^\n]+\.$"):
        shard_task(tmp_path).load(Path())
    (tmp_path / "1.tar").unlink()
    write_shard(tmp_path / "0.tar", {"0.png": encode(DIGITS[0]), "1.png": encode(DIGITS[0]), "0.cls": b"0"})
    with pytest.raises(InputError, match=r"0\.png has no file|0 has no file"):
        shard_task(tmp_path).load(Path())
    write_shard(tmp_path / "0.tar", {f"{name}.{end}": encode(DIGITS[0]) for name, end in ("0p", "1p", "0j")})
    with pytest.raises(InputError, match=r"^[^\n]+0\.tar holds several samples of one name[^\n]+\.$"):
        shard_task(tmp_path, image="p;j").load(Path())


def test_too_few_samples_for_a_split_or_for_the_ranks(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", sample(0))
    with pytest.raises(InputError, match=r"^task\.(validation|path|test_fraction)=[^\n]+ leaves no sample [^\n]+\.$"):
        shard_task(tmp_path).load(Path())
    (tmp_path / "0.tar").unlink()
    write_set(tmp_path, (25,))
    task = shard_task(tmp_path)
    with pytest.raises(InputError, match=r"^task\.path has \d+ training samples for 64 devices[^\n]+\.$"):
        loader(task, "train", world_size=64)
    # A set smaller than a batch still trains.
    assert len(loader(task, "train", batch_size=100)) == 1


def with_bad(folder: Path, data: bytes) -> Path:
    write_set(folder, (60,))
    write_shard(folder / "bad.tar", {"bad.png": data} | sample(61))
    return folder


def truncated() -> bytes:
    return encode(PHOTO[..., 0])[:2000]


def bomb() -> bytes:
    return encode(np.zeros((10000, 10000), bool))


@pytest.mark.parametrize(
    ("data", "reason", "workers"),
    [
        (truncated, "truncated", 0),
        (bytes, "empty", 2),
        (lambda: b"<html>not found</html>", "not in a format", 0),
        (bomb, r"task\.max_pixels=89478485", 2),
        (lambda: encode(PHOTO[:8, :8]), "in colour", 0),
        (lambda: encode(DIGITS[0][:7]), "8x7 pixels, unlike the first", 0),
        (lambda: encode(DIGITS[0].astype(np.float32), "tiff"), "32 bits", 0),
    ],
)
def test_a_bad_image_is_named_or_left_out_with_a_word(
    tmp_path: Path, data: Callable[[], bytes], reason: str, workers: int
) -> None:
    with_bad(tmp_path, data())
    limit = Image.MAX_IMAGE_PIXELS
    task = shard_task(tmp_path, workers=workers, num_classes=0)
    parts = [part for part in PARTS if len(getattr(task.load(Path()), part))]
    with pytest.raises(InputError, match=rf"^[^\n]+bad\.tar/bad\.png [^\n]*({reason})[^\n]*task\.on_bad_image=skip\.$"):
        [list(loader(task, part, batch_size=1)) for part in parts]
    task = shard_task(tmp_path, workers=workers, num_classes=0, on_bad_image="skip")
    for part in parts:
        share = loader(task, part, batch_size=16)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            # As Lightning does, which never asks for one batch more.
            batches = list(islice(share, len(share)))
        assert len(batches) == len(share)
        left_out = len(share.source) // 16 * 16 if part == "train" else len(share.source)
        left_out -= sum(len(pair.index) for pair in batches)
        assert [f"left out {left_out} of" in str(one.message) for one in told] == [True] * left_out
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.filterwarnings("ignore:left out")
def test_a_training_batch_without_any_good_image_ends_the_run(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", sample(0) | {f"{number}.png": b"" for number in range(40)})
    task = shard_task(tmp_path, on_bad_image="skip", num_classes=0)
    with pytest.raises(InputError, match=r"^[^\n]+\.png and all others of a batch cannot be used[^\n]+\.$"):
        list(loader(task, "train", batch_size=2))


def test_samples_without_an_image_are_told(seven: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "odd.tar", sample(0) | {"odd.cls": b"1"})
    pattern = f"{tmp_path}/odd.tar::{seven}/00[1-6].tar"
    with pytest.raises(InputError, match=r"^[^\n]+odd\.tar/odd has no file that ends in [^\n]+\.$"):
        shard_task(pattern).load(Path())
    with pytest.warns(UserWarning, match=r"left out 1 of 112 images .*odd\.tar/odd"):
        assert sum(map(len, shard_task(pattern, on_bad_image="skip").load(Path()))) == 111
    with pytest.raises(InputError, match=r"^task\.path=[^\n]+ no usable image that ends in tif[^\n]+\.$"):
        _ = shard_task(pattern, image="tif").shape


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_images_are_converted_as_files_are(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    images = {f"turned.{suffix}": encode(PHOTO, suffix, exif=exif)}
    if suffix == "png":
        images["deep.png"] = encode(np.arange(60 * 48, dtype=np.uint16).reshape(60, 48) * 22)
        images["alpha.png"] = encode(np.dstack([np.rot90(PHOTO), np.full((60, 48), 9, np.uint8)]))
        images["grey.png"] = encode(np.rot90(PHOTO)[..., 0])
    write_shard(tmp_path / "0.tar", images)
    for channels in (1, 3):
        task = shard_task(tmp_path, channels=channels, num_classes=0)
        assert task.shape == (channels, 60, 48)
        found = [task._contents.decode(one) for one in task._contents.read(task._shards[0])]
        for (name, data), image in zip(images.items(), found, strict=True):
            (tmp_path / name).write_bytes(data)
            np.testing.assert_array_equal(image, read_image(tmp_path / name, channels))


def write_mixed(folder: Path) -> Path:
    """Real digits cut to four sizes."""
    images = [image[: 8 - n % 2, : 8 - n % 3 // 2] for n, image in enumerate(DIGITS[:60])]
    files = {name: data for n, image in enumerate(images) for name, data in sample(n, image).items()}
    write_shard(folder / "0.tar", files)
    return folder


def test_mixed_sizes_train_on_crops_and_are_evaluated_whole(tmp_path: Path) -> None:
    write_mixed(tmp_path)
    with pytest.raises(InputError, match=r"pixels, unlike the first image; task\.crop allows any size"):
        list(loader(shard_task(tmp_path), "train"))
    task = shard_task(tmp_path, crop=6)
    assert task.shape == (1, 6, 6)
    assert {pair.clean.shape for pair in loader(task, "train", crop=6)} == {(8, 1, 6, 6)}
    whole = loader(task, "validation")
    shapes = {pair.clean.shape for pair in whole}
    assert len(shapes) > 1
    assert {shape[0] for shape in shapes} == {1}
    assert len(rows(whole)) == len(whole) == len(whole.source)
    assert_same(rows(whole), rows(*ranks(shard_task(tmp_path, crop=6, workers=2), "validation", 2)))
    with pytest.raises(InputError, match=r"fewer than task\.crop=8"):
        list(loader(shard_task(tmp_path, crop=8), "train", crop=8))


def test_preview_is_always_the_same_and_of_one_size(seven: Path, tmp_path: Path) -> None:
    write_mixed(tmp_path)
    for task, size in ((shard_task(seven), (8, 8)), (shard_task(tmp_path, crop=5), (7, 7))):
        one, other = (
            loader(task, "validation", batch_size=n, rank=n % 2, world_size=2).preview(6).pair for n in (4, 65)
        )
        assert one.clean.shape == (6, 1, *size)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert one.index.tolist() == [int(i) for shard in task.load(Path()).validation.indices for i in shard][:6]  # type: ignore[attr-defined]
    view = loader(shard_task(seven), "validation").preview(6, largest=4)
    assert view.pair.clean.shape == (6, 1, 4, 4)
    assert view.names is not None
    assert [len(view.names), {name.rpartition(".")[2] for name in view.names}] == [6, {"png"}]
    assert view.window is not None
    assert view.window[:, 2:].tolist() == [[4, 4, 8, 8]] * 6
    with_bad(tmp_path / "bad", b"")
    for part in PARTS:
        task = shard_task(tmp_path / "bad", on_bad_image="skip", num_classes=0)
        assert len(loader(task, part).preview(100).pair.clean) <= len(getattr(task.load(Path()), part))


def test_an_iteration_may_be_left_and_begun_anew(seven: Path) -> None:
    """As `limit_train_batches` does."""
    train = loader(shard_task(seven, workers=2), "train")
    first = next(iter(train))
    assert torch.equal(next(iter(train)).degraded, first.degraded)


def test_without_the_library_one_sentence_says_what_to_install(seven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(InputError, match=r"^task=webdataset needs the webdataset package: pip install webdataset"):
        shard_task(seven)


def test_recon_works_without_the_library() -> None:
    for path in (ROOT / "recon" / "data").rglob("*.py"):
        assert not re.search(r"^(import|from) webdataset", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_ranks_without_samples_take_part_in_an_evaluation(seven: Path, world_size: int) -> None:
    whole = shard_task(seven).load(Path()).test
    one = replace(whole, indices=[whole.indices[0][:1], *(shard[:0] for shard in whole.indices[1:])])
    few = [ShardLoader(one, "test", 8, DAMAGE, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert all(len(rank) == 1 for rank in few), "Lightning leaves out a rank of length 0, and the others wait"
    assert [len(order(rank)) for rank in few] == [1] + [0] * (world_size - 1)


def test_overfitting_repeats_the_samples_and_their_damage(seven: Path) -> None:
    epochs = []
    for epoch in range(2):
        repeated = loader(shard_task(seven, shuffle=5), "train", repeat=True)
        repeated.set_epoch(epoch)
        epochs.append(list(repeated))
    assert all(torch.equal(a, b) for pairs in zip(*epochs, strict=True) for a, b in zip(*pairs, strict=True))


def test_links_to_a_shard_are_that_shard(seven: Path, tmp_path: Path) -> None:
    first = sorted(seven.glob("*.tar"))[0]
    for link in (os.symlink, os.link):
        link(first, tmp_path / f"{link.__name__}.tar")
    assert len(shard_task(tmp_path)._shards) == 1
    with pytest.raises(InputError, match=r"is in both task\.path and task\.test"):
        shard_task(seven, test=f"{tmp_path}/link.tar")
