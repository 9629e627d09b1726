"""ONNX with dynamic batch, height and width, and int8 for ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.errors import InputError
from recon.export.pictures import crops
from recon.restore.weights import Weights

OPSET = 18
_FLOATS = (0, 2, 5)  # layers at either end, tried in turn
_CROPS = 48  # that int8 is calibrated on


def require_onnx(key: str = "format") -> None:
    """Raise InputError unless the packages are installed that write and read ONNX."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{key}: ONNX needs the package {error.name}; install what it needs by pip install 'recon-images[export]'"
        ) from error


def onnx_of(weights: Weights) -> bytes:
    """Return a net as ONNX, its input "image" (batch, C', height, width), its output "restored" or "scores".

    A classifier's takes images of its size alone.
    """
    from torch.export import Dim

    facts, recognises = weights.about.facts, weights.about.purpose == "recognise"
    sides = facts["image_size"] if recognises else (65, 73)  # odd: no multiple is taken for granted
    example = torch.zeros(2, facts["in_channels"], *sides)
    sizes = {0: Dim("batch", min=1, max=1 << 10)}
    if not recognises:
        sizes |= {2: Dim("height", min=9, max=1 << 15), 3: Dim("width", min=9, max=1 << 15)}
    with _quiet():
        program = torch.onnx.export(
            weights.net, (example,), dynamo=True, dynamic_shapes=(sizes,), input_names=["image"],
            output_names=["scores" if recognises else "restored"], opset_version=OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    for name, value in metadata(weights).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value
    return bytes(model.SerializeToString())


def metadata(weights: Weights) -> dict[str, str]:
    """Return what a program must know to use a net, as texts."""
    about = weights.about
    known = {
        "name": weights.name, "purpose": about.purpose, "range": "0 to 1", "channels": about.facts["channels"],
        "input": _input(weights), "scale": about.facts["scale"],
        "halo": "the whole picture" if about.radius is None else about.radius,
        "stride": "" if about.stride is None else about.stride,
        "figures": about.figures, "sha256": weights.sha256,
    }  # fmt: skip
    return {f"recon.{name}": value if isinstance(value, str) else json.dumps(value) for name, value in known.items()}


def _input(weights: Weights) -> str:
    """Say what the channels of the input are."""
    parts = ["grey" if weights.about.facts["channels"] == 1 else "red, green, blue"]
    if weights.about.purpose == "inpaint":
        parts.append("1 where a pixel is known and 0 where it is to be filled (and the colours 0)")
    if weights.about.noise_map:
        parts.append("the standard deviation of the noise, the same everywhere")
    return ", ".join(parts)


def session(data: bytes) -> Callable[[Tensor], Tensor]:
    """Return what runs ONNX on the CPU by ONNX Runtime: (B,C',H,W) to (B,C,H,W)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    loaded = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(loaded.run(None, {"image": image.numpy()})[0])


def calibration_crops(weights: Weights) -> list[Tensor]:
    """Return what a net that restores is given for crops of photographs."""
    return [example.given for example in crops(weights, _CROPS)]


def _int8_of(data: bytes, inputs: Sequence[Tensor], kinds: Sequence[str], floats: int) -> bytes:
    """Quantise ONNX to int8, weights by channel and activations by what inputs (B,C',H,W) make of them.

    Args:
        data: the ONNX.
        inputs: batches.
        kinds: of the layers that are quantised.
        floats: how many of these at either end stay in float32.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        """The inputs, one after the other."""

        def __init__(self) -> None:
            self.batches = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch.numpy()}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        given, prepared, written = (Path(folder, name) for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        given.write_bytes(data)
        quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
        names = [node.name for node in onnx.load(prepared).graph.node if node.op_type in kinds]
        quantize_static(
            str(prepared), str(written), Batches(), quant_format=QuantFormat.QDQ, per_channel=True,
            weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, op_types_to_quantize=list(kinds),
            nodes_to_exclude=names[:floats] + names[len(names) - floats :],
        )  # fmt: skip
        return written.read_bytes()


def least_lossy(
    data: bytes, inputs: Sequence[Tensor], kinds: Sequence[str], lost: Callable[[bytes], float], limit: float
) -> tuple[bytes, float, int]:
    """Quantise ONNX with as few layers in float32 as lose little.

    The first and last layers see the image itself, whose finest differences eight bits do not hold.

    Args:
        data: the ONNX.
        inputs: batches (B,C',H,W) to calibrate on.
        kinds: of the layers that are quantised.
        lost: tells what an int8 form loses.
        limit: what it may lose.

    Returns:
        The int8 form, what it loses, which is above `limit` where all lose more, and how many layers at either end are
        in float32.
    """
    for floats in _FLOATS:
        form = _int8_of(data, inputs, kinds, floats)
        if (loss := lost(form)) <= limit:
            break
    return form, loss, floats


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch and ONNX Runtime print about their own steps from a person who cannot act on it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
