"""Whether a restored picture can be made again: the same byte for byte."""

from __future__ import annotations

from pathlib import Path

from recon.errors import InputError
from recon.restore.one import made, wishes_of
from recon.restore.outputs import sha256, sidecar_of
from recon.restore.picture import read_file
from recon.runs.reading import Unreadable, read_object


def difference(output: Path) -> str | None:
    """Restore a picture again as its sidecar says; returns how the result differs, as a clause, or None.

    Raises:
        InputError: the picture, its sidecar or the picture it was made from is missing or damaged, or has changed.
    """
    sidecar = sidecar_of(output)
    try:
        said = read_object(sidecar)
    except (OSError, Unreadable) as error:
        raise InputError(
            f"output: {sidecar} cannot be read ({error}); it lies beside what action=restore wrote"
        ) from error
    source = output.parent / str(said.get("source"))
    data, before = read_file(source), read_file(output)
    if sha256(data) != said.get("source_sha256"):
        raise InputError(f"output: {source} is no longer the picture that {output} was made from; restore it again")
    if sha256(before) != said.get("sha256"):
        return "it has changed since it was written"
    wishes, quality, embed = wishes_of(said.get("settings") or {})
    again = made(data, source, output, wishes, quality, embed)
    if again.record["weights"] != said.get("weights"):
        return "other weights would be used now"
    if again.written == before:
        return None
    other = "" if again.record["machine"] == said.get("machine") else f" (it was made on {said.get('machine')})"
    return f"made again, it is another file{other}"
