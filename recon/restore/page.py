"""A page in the browser on which pictures are restored, at 127.0.0.1: `action=serve`."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recon.errors import InputError
from recon.restore.encode import SUFFIXES
from recon.restore.mend import Settings
from recon.restore.one import made
from recon.restore.picture import Picture, read_file, read_picture
from recon.restore.plan import Wishes
from recon.restore.weights import restorers
from recon.runs.files import write_bytes

_SHOWN = 1600  # pixels: the longer side of what the slider shows
AUTOMATIC = "what fits the picture"


def page(weights: str | None, max_pixels: int, max_megabytes: int) -> Any:
    """Return the page, a `gradio.Blocks`.

    Args:
        weights: the weights to begin with, or None for those that fit each picture.
        max_pixels: larger pictures are refused.
        max_megabytes: larger files are refused.

    Raises:
        InputError: gradio is not installed.
    """
    gradio = require_gradio()
    folder = Path(tempfile.mkdtemp(prefix="recon-serve-"))
    kinds = sorted(SUFFIXES)

    with gradio.Blocks(title="recon", analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        gradio.Markdown("# Mend a photograph\nNothing leaves this computer.")
        with gradio.Row():
            with gradio.Column(scale=1):
                given = gradio.File(label="Photograph", file_types=kinds, type="filepath", height=120)
                brush = gradio.ImageMask(
                    label="Paint what to fill", type="numpy", layers=False, height=320,
                    brush=gradio.Brush(colors=["#ff00ff"], color_mode="fixed"), transforms=(), sources=(),
                )  # fmt: skip
                chosen = gradio.Dropdown(
                    list(dict.fromkeys([AUTOMATIC, *restorers(), *filter(None, [weights])])),
                    value=weights or AUTOMATIC,
                    label="Weights",
                )
                strength = gradio.Slider(0, 1, 1, step=0.05, label="Strength")
                force = gradio.Checkbox(False, label="Restore it even where little is gained")
                button = gradio.Button("Restore", variant="primary")
            with gradio.Column(scale=2):
                said = gradio.Markdown("Drop a photograph, then press Restore.")
                slider = gradio.ImageSlider(label="Before and after", type="pil", height=520)
                download = gradio.DownloadButton("Download the result", interactive=False)
        given.change(lambda path: _opened(path, max_pixels, max_megabytes, gradio), given, [brush, said])
        button.click(
            lambda *values: _restored(folder, max_pixels, gradio, *values),
            [given, brush, chosen, strength, force],
            [slider, said, download],
        )
    blocks.temporary = folder
    return blocks


def serve(page: Any, host: str, port: int | None, max_megabytes: int, opened: Callable[[str], object]) -> None:
    """Serve the page until it is interrupted; its temporary files go with it.

    Args:
        page: from `page`.
        host: the address to listen at.
        port: None for the first that is free from 7860 on.
        max_megabytes: of an upload.
        opened: is called with the address.
    """
    try:
        try:
            _, address, _ = page.launch(
                server_name=host, server_port=port, quiet=True, share=False, prevent_thread_lock=True, show_error=True,
                max_file_size=f"{max_megabytes}mb", footer_links=[],
            )  # fmt: skip
        except OSError as error:
            raise InputError(
                f"port: {host}:{port or 'any'} cannot be listened at; choose another port or host"
            ) from error
        opened(address)
        page.block_thread()
    finally:
        page.close(verbose=False)
        shutil.rmtree(page.temporary, ignore_errors=True)


def require_gradio() -> Any:
    """Import gradio, which then asks no server anything; raises InputError where it is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    logging.getLogger("httpx").setLevel(logging.WARNING)  # gradio asks its own page whether it is there
    try:
        import gradio
    except ImportError as error:
        raise InputError(
            "action: serve needs the package gradio; install it by pip install 'recon-images[serve]'"
        ) from error
    return gradio


def _opened(path: str | None, max_pixels: int, max_megabytes: int, gradio: Any) -> tuple[Any, str]:
    """Show a picture under the brush, and say what it is."""
    if path is None:
        return None, "Drop a photograph, then press Restore."
    try:
        if os.path.getsize(path) > max_megabytes << 20:
            raise InputError(f"the file has more than {max_megabytes} MB")
        picture = read_picture(Path(path), max_pixels)
    except InputError as error:
        return None, f"**{_plain(error, path)}**"
    height, width = picture.values.shape[:2]
    bits, kind = 8 * picture.values.dtype.itemsize, {1: "grey", 3: "colour", 4: "CMYK"}[picture.values.shape[2]]
    return _shown(picture), f"{picture.format}, {width} × {height} pixels, {kind}, {bits} bits a channel"


def _restored(
    folder: Path, max_pixels: int, gradio: Any, path: str | None, brush: Any, chosen: str, strength: float, force: bool
) -> tuple[Any, str, Any]:
    """Restore a picture; returns both for the slider, what was done, and the file to download."""
    nothing = gradio.DownloadButton(interactive=False)
    if path is None:
        return None, "Drop a photograph first.", nothing
    source = Path(path)
    try:
        hole = _painted(brush)
        mask = None
        if hole is not None:
            mask = folder / "mask.png"
            Image.fromarray(hole).save(mask)
        own = None if chosen == AUTOMATIC or (mask is not None) else chosen
        wishes = Wishes(own, mask=mask, mask_resize=True, force=force, max_pixels=max_pixels,
                        settings=Settings(strength=strength))  # fmt: skip
        target = folder / f"{source.stem}_restored{source.suffix}"
        result = made(read_file(source), source, target, wishes, None, False)
    except InputError as error:
        return None, f"**{_plain(error, path)}**", nothing
    seen = ". ".join(part[0].upper() + part[1:] for part in (result.plan.seen, result.plan.why) if part)
    before = _shown(result.before)
    if result.after is None:
        return (before, before), seen, nothing
    write_bytes(target, result.written)
    return (before, _shown(result.after)), seen, gradio.DownloadButton(value=str(target), interactive=True)


def _painted(brush: Any) -> np.ndarray | None:
    """Return what was painted over, (H,W) uint8 with 255 where, or None."""
    layers = (brush or {}).get("layers") or []
    if not layers or layers[0] is None:
        return None
    alpha = np.asarray(layers[0])[..., -1]
    return None if not alpha.any() else np.where(alpha > 0, 255, 0).astype(np.uint8)


def _shown(picture: Picture) -> Image.Image:
    """Return a picture in 8 bits RGB, at most 1600 pixels long."""
    values = picture.values if picture.white == 255 else (picture.values >> 8).astype(np.uint8)
    height, width, channels = values.shape
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[channels]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(values).tobytes()).convert("RGB")
    image.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
    return image


def _plain(error: InputError, path: str) -> str:
    """Say what is wrong without the path of the upload."""
    return str(error).replace(path, "The file")
