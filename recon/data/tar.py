"""Tar shards on a disk or behind http(s), read safely: no shell command is run and no cut archive passes for a whole.

The `webdataset` library also opens other addresses, above all `pipe:`, which would run a stranger's shell commands.
"""

import glob
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse

from recon.data.find import Identity, expanded, identity
from recon.errors import InputError


def expand(key: str, pattern: str) -> dict[Identity, str]:
    """List the shards that `task.<key>` names, without repeats: absolute paths and http(s) URLs, by identity.

    An absolute path has no scheme, so that not even a file whose name is `pipe:…` makes the library run a command.

    Raises:
        InputError: the library is missing, the pattern is wrong or names no file or another scheme.
    """
    try:
        from webdataset import SimpleShardList
    except ImportError as error:
        raise InputError("task=webdataset needs the webdataset package: pip install 'recon[webdataset]'.") from error
    try:
        urls = SimpleShardList(pattern).urls
    except Exception as error:  # of unbalanced braces, of ${NAME} without an environment variable WDS_NAME
        raise InputError(f"task.{key}={pattern} cannot be expanded ({error}): correct it.") from error
    shards: dict[Identity, str] = {}
    for url in urls:
        scheme = urlparse(url).scheme
        if scheme not in ("", "http", "https"):
            raise InputError(
                f"task.{key}={pattern} asks for {scheme}:, which is not read, as it may run commands: "
                "give local paths or http(s) URLs."
            )
        for shard in [url] if scheme else _local(key, url):
            key_of = (shard,) if scheme else identity(Path(shard))
            shards[key_of] = shards.pop(key_of, shard)  # in the order of the last names
    return shards


def _local(key: str, pattern: str) -> list[str]:
    """List the files that a path or glob names, as absolute paths."""
    path = expanded(pattern)
    paths = [path] if path.is_file() else sorted(map(Path, glob.iglob(str(path), recursive=True)))
    files = [str(path.absolute()) for path in paths if path.is_file()]
    if not files:
        raise InputError(f"task.{key}: {pattern} matches no file: give tar shards, such as shards/train-*.tar.")
    return files


def list_samples(shard: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard without the contents of their files; of a local shard only headers are read."""
    from webdataset.tariterators import group_by_keys

    with _one_sentence(shard), _opened(shard) as stream:
        mode: Any = "r|*" if urlparse(shard).scheme else "r:*"
        with tarfile.open(fileobj=stream, mode=mode, tarinfo=_Strict) as tar:
            yield from group_by_keys({"fname": name, "data": b"", "__url__": shard} for name in _file_names(tar))
        while stream.read(1 << 20):  # a broken transfer only shows at the end
            pass


def read_samples(shard: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard as the library does: files by their endings, the name as "__key__"."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    with _one_sentence(shard), _opened(shard) as stream:
        yield from group_by_keys(tar_file_expander([{"url": shard, "stream": stream}]))


class _Strict(tarfile.TarInfo):
    """Headers of an archive that must end as it should; `tarfile` takes a cut or garbled one for its end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Strict":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # two blocks of zeros: the end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} after {tarfile_.offset} bytes") from error


def _file_names(tar: tarfile.TarFile) -> Iterator[str]:
    """Yield the names of the files that the library reads."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # which would hold every header of the shard
        if member.isreg() and not re.match(r"__[^/]*__($|/)", member.name):
            yield member.name


@contextmanager
def _opened(shard: str) -> Iterator[IO[bytes]]:
    from webdataset.gopen import gopen

    with gopen(shard) as stream:
        yield stream


@contextmanager
def _one_sentence(shard: str) -> Iterator[None]:
    """Turn whatever goes wrong with a shard into one sentence that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # OSError, tarfile's, zlib's, EOFError, ValueError of the library
        curl = re.search(r"curl.*(exit \d+)", str(error))
        reason = f"curl: {curl[1]}" if curl else str(error).split("\n")[0].rstrip(":")
        raise InputError(
            f"{shard} cannot be read to its end as a tar archive ({reason or type(error).__name__}): "
            "fetch or write it again."
        ) from error
