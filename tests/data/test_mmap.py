"""Mapped stores: the same pairs as from memory; built once, whole or not at all, and again when the folder changed."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from skimage.data import astronaut
from test_folder import folder_task, save

from recon.data import cache as cache_module
from recon.data.augment import Augment
from recon.data.datamodule import DataModule
from recon.data.store import PairLoader
from recon.degradations import GaussianNoise
from recon.errors import InputError
from recon.pair import Pair

PHOTO = astronaut()
# What the processes that the tests start begin with, without the time that Hydra and Lightning take.
TASK = """
import sys
from pathlib import Path
from recon.data.tasks.folder import Folder
task = Folder(
    path=sys.argv[1], test=None, test_fraction=0.1, validation=1, crop=32, crops_per_image=1, batch_size=4, epochs=1,
    on_bad_image="raise", max_pixels=10**8,
)
"""


def photographs(folder: Path, count: int = 9) -> Path:
    """Patches of several sizes, in three class folders."""
    for n in range(count):
        save(folder, f"{'abc'[n % 3]}/{n}.png", np.ascontiguousarray(PHOTO[n : n + 40 + n % 3, 5 * n : 5 * n + 50]))
    return folder


def pairs(task, cache: Path | None, split: str = "train") -> list[Pair]:
    store = getattr(task.load(Path(), cache), split)
    loader = PairLoader(store, split, 4, GaussianNoise((0.0, 0.2)), Augment(flip=True, turns=True), crop=task.crop)
    return list(loader)


def files(cache: Path, suffix: str = "pixels") -> list[Path]:
    return sorted(cache.glob(f"*.{suffix}"))


def assert_same(one: list[Pair], other: list[Pair]) -> None:
    assert len(one) == len(other) > 0
    for left, right in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("crop", [None, 32])
def test_pairs_are_bit_equal_to_those_from_memory(tmp_path: Path, split: str, crop: int | None) -> None:
    folder = photographs(tmp_path / "photos")
    if crop is None:  # whole images of one size
        for path in folder.rglob("*.png"):
            if int(path.stem) % 3:
                path.unlink()
        for n in (1, 2, 4):
            save(folder, f"a/{n}.png", np.ascontiguousarray(PHOTO[n : n + 40, :50]))
    how = {"crop": crop, "crops_per_image": 3, "batch_size": 4}
    if crop is None:
        task = folder_task(folder, **how)
        stores = (getattr(task.load(Path(), cache), split) for cache in (None, tmp_path / "cache"))
        assert_same(*(list(PairLoader(store, split, 4, GaussianNoise((0.0, 0.2)), None)) for store in stores))
    else:
        assert_same(*(pairs(folder_task(folder, **how), cache, split) for cache in (None, tmp_path / "cache")))


def test_a_store_is_built_once_and_then_only_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = photographs(tmp_path / "photos"), tmp_path / "cache"
    before = pairs(folder_task(folder, crop=32), cache)
    [file] = files(cache)
    about = file.stat()
    monkeypatch.setattr("recon.data.image_files.read_image", None)  # decodes nothing now
    assert_same(before, pairs(folder_task(folder, crop=32), cache))
    assert [file] == files(cache)
    assert (about.st_ino, about.st_mtime_ns) == (file.stat().st_ino, file.stat().st_mtime_ns)
    assert files(cache, "part") == []


def test_the_buffer_lies_on_disk_and_cannot_change_it(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    splits = folder_task(photographs(tmp_path / "photos"), crop=32).load(Path(), cache)
    assert splits.train.buffer is splits.validation.buffer is splits.test.buffer
    maps = Path("/proc/self/maps").read_text().splitlines()
    [line] = [line for line in maps if str(files(cache)[0]) in line]
    start, end = (int(number, 16) for number in line.split()[0].split("-"))
    assert start <= splits.train.buffer.data_ptr() < end
    assert line.split()[1].startswith("r--")


def test_all_decoded_images_are_never_in_memory(tmp_path: Path) -> None:
    """Building a store of 252 MB takes less than half of that of the process's own memory."""
    first = save(tmp_path / "photos", "0.jpg", PHOTO)  # 512x512
    for n in range(1, 320):  # not links, which would count as one image
        shutil.copy(first, first.with_name(f"{n}.jpg"))
    code = (
        TASK
        + """
import threading
def status():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024
task.shape
before, peak, done = status(), [0.0], threading.Event()
def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], status())
watcher = threading.Thread(target=watch)
watcher.start()
task.load(Path(), Path(sys.argv[2]))
done.set()
watcher.join()
print(peak[0] - before)
"""
    )
    command = [sys.executable, "-c", code, str(tmp_path / "photos"), str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 126
    assert files(tmp_path / "cache")[0].stat().st_size > 251e6


def change(path: Path) -> None:
    save(path.parent, path.name, np.ascontiguousarray(PHOTO[100:141, 100:150]))


def touch(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def add(path: Path) -> None:
    save(path.parent, "new.png", np.ascontiguousarray(PHOTO[100:141, 100:150]))


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed.png"))


@pytest.mark.parametrize("what", [change, add, Path.unlink, rename, touch])
def test_another_folder_is_another_store_and_the_old_one_goes(tmp_path: Path, what) -> None:
    folder, cache = photographs(tmp_path / "photos"), tmp_path / "cache"
    folder_task(folder, crop=32).load(Path(), cache)
    [old] = files(cache)
    what(folder / "b/1.png")
    assert_same(pairs(folder_task(folder, crop=32), None), pairs(folder_task(folder, crop=32), cache))
    [new] = files(cache)
    assert new != old


def test_two_folders_and_two_ways_of_reading_have_stores_of_their_own(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("one", "other"):
        folder_task(photographs(tmp_path / name), crop=32).load(Path(), cache)
    folder_task(tmp_path / "one", crop=32, on_bad_image="skip").load(Path(), cache)
    assert len(files(cache)) == 3


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def lengthen(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite_the_end(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-40] + bytes(40))


@pytest.mark.parametrize("damage", [cut_short, lengthen, empty, overwrite_the_end])
def test_a_store_that_is_not_whole_is_built_again(tmp_path: Path, damage) -> None:
    folder, cache = photographs(tmp_path / "photos"), tmp_path / "cache"
    want = pairs(folder_task(folder, crop=32), cache)
    [file] = files(cache)
    right = file.read_bytes()
    damage(file)
    assert_same(want, pairs(folder_task(folder, crop=32), cache))
    assert file.read_bytes() == right


def read_all(splits, crop: int | None) -> None:
    corner = torch.zeros(1, dtype=torch.int64)
    for store in splits:
        for index in torch.arange(len(store)).split(1):
            store.gather(index) if crop is None else store.crop(index, corner, corner, (crop, crop))


@pytest.mark.parametrize("crop", [None, 32])
def test_changed_bytes_are_noticed_before_they_are_used(tmp_path: Path, crop: int | None) -> None:
    folder, cache = photographs(tmp_path / "photos"), tmp_path / "cache"
    task = folder_task(folder, crop=32, on_bad_image="skip")
    before = pairs(task, None)
    read_all(task.load(Path(), cache), crop)
    [file] = files(cache)
    right = file.read_bytes()
    pixels = len(right) - 9 * 5 - 36
    for place in (0, pixels // 2, pixels - 1, pixels + 3, pixels + 9 + 7, pixels + 9 * 5 + 4, len(right) - 1):
        damaged = bytearray(right)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        splits = folder_task(folder, crop=32, on_bad_image="skip").load(Path(), cache)
        if place < pixels:  # of the image, which one split has
            with pytest.raises(InputError, match=r"^data\.cache: .*\.pixels has been damaged .* run again"):
                read_all(splits, crop)
            assert files(cache) == []
        else:  # of what is told of them, which is built anew at once
            assert file.read_bytes() == right
        assert_same(before, pairs(task, cache))


# Decodes some images, and the others only when a file named "go" is there.
CHILD = (
    TASK
    + """
import hashlib, itertools, os, time, types
from recon.data import image_files
sys.modules["recon.console"] = types.SimpleNamespace(say=lambda line: print(line, flush=True))
read, number = image_files.read_image, itertools.count()
def slowly(*how):
    os.write(1, b"decoding\\n")  # whole, unlike what threads print
    while next(number) >= int(sys.argv[3]) and not (Path(sys.argv[1]).parent / "go").exists():
        time.sleep(0.01)
    return read(*how)
image_files.read_image = slowly
store = task.load(Path(), Path(sys.argv[2])).train
print("bytes", hashlib.md5(store.buffer.numpy()).hexdigest(), flush=True)
"""
)


def child(folder: Path, cache: Path, free: int = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CHILD, str(folder), str(cache), str(free)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def line(run: "subprocess.Popen[str]") -> str:
    assert run.stdout is not None
    return run.stdout.readline().strip()


def test_two_runs_at_once_build_one_store(tmp_path: Path) -> None:
    folder, cache = photographs(tmp_path / "photos"), tmp_path / "cache"
    first = child(folder, cache)
    assert line(first) == "decoding"
    second = child(folder, cache)
    told = line(second)
    assert files(cache) == []
    (tmp_path / "go").touch()
    rest, other = (list(map(str.strip, run.stdout or [])) for run in (first, second))
    assert first.wait() == second.wait() == 0
    [file] = files(cache)
    assert told == f"data: waiting for another run that builds {file}"
    assert rest.count("decoding") == 8
    assert other == rest[-1:], "the second decodes nothing and reads the same bytes"
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", ".pixels"]


def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    folder, cache = photographs(tmp_path / "photos"), tmp_path / "cache"
    run = child(folder, cache, free=4)
    assert [line(run) for _ in range(5)] == ["decoding"] * 5  # of 9
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert files(cache) == []
    assert len(files(cache, "part")) == 1
    assert_same(pairs(folder_task(folder, crop=32), None), pairs(folder_task(folder, crop=32), cache))
    assert len(files(cache)) == 1
    assert files(cache, "part") == []


def fail_when_written(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refuse)


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    folder, cache = photographs(tmp_path / "photos"), tmp_path / "cache"
    for number in (errno.ENOSPC, errno.EDQUOT):
        fail_when_written(monkeypatch, number)
        with pytest.raises(InputError, match=rf"^data\.cache={cache} has too little space: [^\n]+ needs 55\.4 kB.*\.$"):
            folder_task(folder, crop=32).load(Path(), cache)
        assert [path.suffix for path in cache.iterdir()] == [".lock"]
    fail_when_written(monkeypatch, errno.EIO)
    with pytest.raises(InputError, match=r"^data\.cache=[^\n]+ cannot be used \(Input/output error\)[^\n]+\.$"):
        folder_task(folder, crop=32).load(Path(), cache)


def test_a_disk_without_room_is_told_before_anything_is_decoded(tmp_path: Path, monkeypatch) -> None:
    folder = photographs(tmp_path / "photos")
    free = shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr("recon.data.image_files.read_image", None)
    with pytest.raises(InputError, match=r"^data\.cache=[^\n]+ has too little space"):
        folder_task(folder, crop=32).load(Path(), tmp_path / "cache")


def test_a_write_in_several_parts_is_finished(tmp_path: Path, monkeypatch) -> None:
    folder = photographs(tmp_path / "photos")
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, start: whole(file, data[:1000], start))
    assert_same(pairs(folder_task(folder, crop=32), None), pairs(folder_task(folder, crop=32), tmp_path / "cache"))


def test_a_cache_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^data\.cache=[^\n]+ cannot be used \(Not a directory\)[^\n]+\.$"):
        folder_task(photographs(tmp_path / "photos"), crop=32).load(Path(), tmp_path / "file" / "cache")


def test_images_that_memory_cannot_hold_name_the_other_store(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cache_module.np, "empty", refuse)
    with pytest.raises(InputError, match=r"^data\.store=memory [^\n]+ set data\.store=mmap\.$"):
        folder_task(photographs(tmp_path / "photos"), crop=32).load(Path())


def test_skipped_images_are_left_out_and_named_each_time(tmp_path: Path) -> None:
    folder, cache = photographs(tmp_path / "photos"), tmp_path / "cache"
    bad = save(folder, "b/bad.png", PHOTO[:60])
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    found = []
    for where in (None, cache, cache):
        with pytest.warns(UserWarning, match=r"left out 1 of 10 images .*: bad\.png"):
            found.append(pairs(folder_task(folder, crop=32, on_bad_image="skip"), where))
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])
    with pytest.raises(InputError, match=r"bad\.png .* truncated"):
        folder_task(folder, crop=32).load(Path(), cache)
    assert len(files(cache)) == 1, "the store with a gap is not that of on_bad_image=raise"


def test_a_bad_image_ends_the_build_and_leaves_no_file(tmp_path: Path) -> None:
    folder, cache = photographs(tmp_path / "photos"), tmp_path / "cache"
    bad = save(folder, "b/bad.png", PHOTO[:60])
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    with pytest.raises(InputError, match=r"bad\.png"):
        folder_task(folder, crop=32).load(Path(), cache)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_store_larger_than_the_memory_can_be_mapped(tmp_path: Path) -> None:
    """Of 2 TB that take no space on the disk; reading near the end."""
    total, content = 1 << 41, bytes(range(32))
    lengths = np.full(2048, 1 << 30)
    path = tmp_path / f"big-{content.hex()[:16]}.pixels"
    with open(path, "wb") as file:
        file.seek(total - 5)
        about = bytes([1]) * 2048 + bytes(4 * 2048) + content
        file.write(b"\1\2\3\4\5" + about + zlib.crc32(about).to_bytes(4, "little"))
    buffer, good, _ = cache_module.mapped(tmp_path, "big", content, lengths, lambda write: [])
    assert good.all()
    assert buffer[total - 5 :].tolist() == [1, 2, 3, 4, 5]
    assert len(buffer) == total


def test_only_a_folder_can_be_mapped(tmp_path: Path) -> None:
    from recon.data.tasks.digits import Digits

    task = Digits(batch_size=4, epochs=1, validation=0.1, crop=None)
    with pytest.raises(InputError, match=r"^data\.store=mmap [^\n]+ task=folder[^\n]+\.$"):
        DataModule(task, Path(), GaussianNoise(0.1), None, 0, False, cache=tmp_path)


@pytest.mark.gpu
def test_pairs_on_cuda_from_a_mapped_store_are_those_of_the_cpu(tmp_path: Path) -> None:
    store = folder_task(photographs(tmp_path / "photos"), crop=32).load(Path(), tmp_path / "cache").train
    how = {"augment": Augment(flip=True, turns=True), "crop": 32}
    here = list(PairLoader(store, "train", 4, GaussianNoise(0.1), **how))
    there = list(PairLoader(store, "train", 4, GaussianNoise(0.1), **how, device=torch.device("cuda")))
    assert {field.device.type for pair in there for field in pair} == {"cuda"}
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.clean, other.clean.cpu())
        assert torch.equal(one.index, other.index.cpu())
        torch.testing.assert_close(one.degraded, other.degraded.cpu(), atol=1e-6, rtol=0)
