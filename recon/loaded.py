"""A trained model in Python: `recon.load(folder)` takes NumPy arrays, Pillow images and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recon import keyed
from recon.build import trained
from recon.errors import InputError
from recon.modules.base import Module
from recon.pair import Pair
from recon.report.choose import choose
from recon.restore.of_run import weights_of
from recon.restore.restorer import PhotoRestorer
from recon.restore.weights import load_weights, names, require_restorer

Picture: TypeAlias = "np.ndarray | Image.Image | Tensor"


class Model:
    """A trained model, on the CPU in evaluation mode.

    Attributes:
        module: the module, a `lightning.LightningModule`; move it with `model.module.to("cuda")`.
        facts: what its images are: "channels", "image_size", "scale", "num_classes".
    """

    def __init__(self, module: Module, folder: Path) -> None:
        self.module = module
        self.facts = module.facts
        self._folder = folder

    def __call__(self, image: Picture, mask: np.ndarray | Tensor | None = None, sigma: float | None = None) -> Any:
        """Restore, rebuild or recognise an image, or a batch of them.

        Args:
            image: a Pillow image; an array (H,W), (H,W,C) or (B,H,W,C), uint8 or float in [0,1]; or a float tensor
                (C,H,W) or (B,C,H,W) in [0,1].
            mask: of the image's height and width, 1 where a pixel is known and 0 in a hole; None where all are known.
            sigma: the standard deviation of the noise, for a model that is given it (`model.noise_map`).

        Returns:
            Images of the same type and layout as `image`; of a classifier the scores, a tensor (K,) or (B,K).

        Raises:
            InputError: the image is not of the kind that the model was trained on.
        """
        x = self._tensor(image)
        batch = x if x.ndim == 4 else x[None]
        self._check(batch)
        known = None if mask is None else self._known(mask, batch)
        if getattr(self.module, "noise_map", False) != (sigma is not None):
            raise InputError(
                "sigma: this model is given the level of the noise; give its standard deviation, such as sigma=25/255"
                if sigma is None
                else "sigma: this model is not given the level of the noise; leave it out"
            )
        pair = Pair.of(batch, mask=known)
        pair = pair._replace(severity=torch.full_like(pair.severity, sigma or 0.0))
        with torch.inference_mode():
            result = self.module.predict(Pair(*(part.to(self.module.device) for part in pair))).float().cpu()
        result = result if x.ndim == 4 else result[0]
        return result if result.ndim < 3 else _like(image, result.clamp(0, 1))

    def restore(self, image: Any, hole: np.ndarray | None = None, **options: Any) -> Any:
        """Restore an image of any size by tiles, with its alpha; see `recon.restore.restorer.PhotoRestorer.restore`."""
        return PhotoRestorer(weights_of(self.module, self._folder, "name")).restore(image, hole, **options)

    def generate(self, count: int, label: int | None = None, seed: int = 0) -> Tensor:
        """Generate images, (count,C,H,W) in [0,1]; the same seed gives the same images.

        Args:
            count: how many.
            label: their class, or None for all classes in turn.
            seed: of the noise.

        Raises:
            InputError: the model generates no images.
        """
        generate = getattr(self.module, "generate", None)
        if generate is None:
            raise InputError(f"{type(self.module).__name__} generates no images; load a run of model=gan or model=vae")
        index = torch.arange(count, device=self.module.device)
        labels = index % max(1, self.facts["num_classes"]) if label is None else torch.full_like(index, label)
        with torch.inference_mode():
            images: Tensor = generate(keyed.keys(seed, "generate", 0, index), labels).float().cpu().clamp(0, 1)
        return images

    @staticmethod
    def _known(mask: np.ndarray | Tensor, batch: Tensor) -> Tensor:
        known = torch.as_tensor(mask).float()
        if known.shape[-2:] != batch.shape[2:]:
            raise InputError(
                f"mask: it is of {tuple(known.shape)}, and the images are of {tuple(batch.shape[2:])} pixels"
            )
        return known.expand(len(batch), 1, *batch.shape[2:])

    def _check(self, batch: Tensor) -> None:
        if self.module.kind == "generate":
            raise InputError(f"{type(self.module).__name__} takes no image; call generate(count, label)")
        channels, size = self.facts["channels"], self.module.built_for.get("image_size")
        if batch.shape[1] != channels:
            raise InputError(f"the model takes images of {channels} channels, and this one has {batch.shape[1]}")
        if size is not None and tuple(batch.shape[2:]) != tuple(size):
            raise InputError(
                f"the model takes images of {'×'.join(map(str, size))} pixels alone, and this one has "
                f"{'×'.join(map(str, batch.shape[2:]))}; resize it"
            )

    def _tensor(self, image: Any) -> Tensor:
        """Convert to a float tensor (C,H,W) or (B,C,H,W) in [0,1]."""
        if isinstance(image, Image.Image):
            image = np.array(image.convert("L" if self.facts["channels"] == 1 else "RGB"))
        if isinstance(image, np.ndarray):
            scale = 255 if image.dtype == np.uint8 else 1
            x = torch.from_numpy(np.ascontiguousarray(image)).float() / scale
            return x[None] if x.ndim == 2 else x.movedim(-1, -3)
        if not isinstance(image, Tensor) or not image.is_floating_point() or image.ndim not in (3, 4):
            raise InputError("give a Pillow image, an array (H,W), (H,W,C) or (B,H,W,C), or a float tensor (C,H,W)")
        return image.float()


def _like(given: Any, result: Tensor) -> Any:
    """Convert images (C,H,W) or (B,C,H,W) in [0,1] to the type and layout of the given one."""
    if isinstance(given, Tensor):
        return result
    array = result.movedim(-3, -1).numpy()
    if isinstance(given, Image.Image):
        return Image.fromarray(_bytes(array[..., 0] if array.shape[-1] == 1 else array))
    array = array[..., 0] if given.ndim == 2 else array
    return _bytes(array) if given.dtype == np.uint8 else array


def _bytes(array: np.ndarray) -> np.ndarray:
    return (array * 255).round().astype(np.uint8)


def load(name: str | Path) -> Model | PhotoRestorer:
    """Load a trained model or weights; see `recon.load`."""
    if str(name) in names() or str(name).endswith(".safetensors"):
        return PhotoRestorer(require_restorer(load_weights(str(name), "name"), "name"))
    path = Path(name).expanduser()
    path = path if path.is_dir() else choose("name", str(name))
    return Model(trained(path, "name"), path)
