import gzip
import hashlib
import os
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recon.data.download import fetch
from recon.errors import InputError

FILES = {"a.gz": gzip.compress(b"first" * 5000, mtime=0), "b.gz": gzip.compress(b"second" * 5000, mtime=0)}
MD5 = {name: hashlib.md5(data).hexdigest() for name, data in FILES.items()}
# Port 9 (discard) is refused at once where nobody listens.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@contextmanager
def serving(folder: Path):
    """Serve a folder; gives (address, list of the paths asked for)."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    with serving(folder) as (url, asked):
        yield folder, url, asked


def test_files_are_downloaded_once_and_leave_nothing_else(server, tmp_path):
    _, url, asked = server
    target = tmp_path / "data" / "set"
    paths = fetch(target, MD5, [url])
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert fetch(target, MD5, [url]) == paths
    assert asked == ["/a.gz", "/b.gz"]
    assert sorted(p.name for p in target.iterdir()) == ["a.gz", "b.gz"]


def test_an_interrupted_set_continues_with_what_is_missing(server, tmp_path):
    _, url, asked = server
    (tmp_path / "a.gz").write_bytes(FILES["a.gz"])
    fetch(tmp_path, MD5, [url])
    assert asked == ["/b.gz"]


def test_a_wrong_file_is_kept_aside_and_replaced(server, tmp_path):
    _, url, _ = server
    (tmp_path / "a.gz").write_bytes(b"broken")
    with pytest.warns(UserWarning, match=r"a\.gz has a wrong checksum; it is kept as a\.gz\.bad"):
        fetch(tmp_path, MD5, [url])
    assert (tmp_path / "a.gz").read_bytes() == FILES["a.gz"]
    assert (tmp_path / "a.gz.bad").read_bytes() == b"broken"


def test_a_wrong_file_is_not_used_even_when_the_download_fails(tmp_path):
    (tmp_path / "a.gz").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="wrong checksum"), pytest.raises(InputError, match=r"data\.root"):
        fetch(tmp_path, MD5, [NOWHERE])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gz.bad"]


def test_a_wrong_file_in_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.gz").write_bytes(b"broken")

    # Permissions would not stop root, who runs the tests in containers.
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InputError, match=r"wrong checksum and its folder cannot be written .*data\.root"):
        fetch(tmp_path, MD5, [NOWHERE])


def test_a_file_that_no_server_has_gives_one_sentence(server, tmp_path):
    folder, url, _ = server
    (folder / "a.gz").unlink()
    with pytest.raises(InputError) as error:
        fetch(tmp_path / "set", MD5, [url])
    text = str(error.value)
    assert "\n" not in text
    for part in (str(tmp_path / "set" / "a.gz"), f"{url}/a.gz: HTTP 404", "by hand", "data.root", "RECON_DATA"):
        assert part in text
    assert list((tmp_path / "set").iterdir()) == []


def test_the_second_mirror_serves_what_the_first_has_not(server, tmp_path):
    _, url, _ = server
    [path, _] = fetch(tmp_path / "set", MD5, [NOWHERE, url])
    assert path.read_bytes() == FILES["a.gz"]


def test_a_mirror_with_other_bytes_is_passed_over(server, tmp_path):
    _, url, _ = server
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.gz").write_bytes(b"an error page")
    with serving(tmp_path / "other") as (bad, _):
        [path] = fetch(tmp_path / "set", {"a.gz": MD5["a.gz"]}, [bad, url])
        assert path.read_bytes() == FILES["a.gz"]
        with pytest.raises(InputError, match="wrong checksum"):
            fetch(tmp_path / "again", {"a.gz": MD5["a.gz"]}, [bad])


def test_parts_of_killed_processes_go_but_those_of_living_ones_stay(server, tmp_path):
    _, url, _ = server
    dead, living = tmp_path / ".a.gz.1.part", tmp_path / ".a.gz.2.part"
    dead.write_bytes(b"half")
    living.write_bytes(b"half")
    os.utime(dead, (time.time() - 86400,) * 2)
    fetch(tmp_path, MD5, [url])
    assert not dead.exists()
    assert living.exists()


def test_many_at_once_do_no_harm(server, tmp_path):
    _, url, _ = server
    errors = []

    def one():
        try:
            fetch(tmp_path / "set", MD5, [url])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert errors == []
    assert {p.name: p.read_bytes() for p in (tmp_path / "set").iterdir()} == FILES


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        fetch(tmp_path / "file" / "set", MD5, [NOWHERE])
