"""`action=serve`: a page in the browser on which photographs are restored."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.actions.base import Action
from recon.ranges import require_whole


class Serve(Action):
    """Serve a page until it is interrupted; nothing leaves this computer.

    Args:
        host: the address to listen at; 127.0.0.1 is reached from this computer alone.
        port: the port, or None for the first that is free from 7860 on.
        weights: the weights that are chosen at first, or None for those that fit each picture.
        max_pixels: larger pictures are refused.
        max_megabytes: larger files are refused.
    """

    leaves_a_record = False
    imports_torch = False  # as `action=restore`
    takes = ()

    def __init__(self, host: str, port: int | None, weights: str | None, max_pixels: int, max_megabytes: int) -> None:
        if port is not None:
            require_whole("port", port, 1, 65535)
        require_whole("max_pixels", max_pixels, 1, 1 << 40)
        require_whole("max_megabytes", max_megabytes, 1, 1 << 16)
        self.host, self.port, self.weights = host, port, weights
        self.max_pixels, self.max_megabytes = max_pixels, max_megabytes

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Serve it."""
        from recon.restore.page import page, serve
        from recon.restore.plan import named

        if self.weights is not None:
            named(self.weights)
        made = page(self.weights, self.max_pixels, self.max_megabytes)

        def say(address: str) -> None:
            print(f"serve: {address} (Ctrl-C ends it)", flush=True)

        # Ended by SIGTERM too, it leaves nothing behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            serve(made, self.host, self.port, self.max_megabytes, say)
        except KeyboardInterrupt:
            print("serve: ended", flush=True)
