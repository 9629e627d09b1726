"""The card of weights: what they are for, what they were trained on, how good they are, where they end."""

from __future__ import annotations

import json
from typing import Any

from recon.measures import ROWS
from recon.restore.weights import Weights

_PURPOSES = {
    "denoise": "removes noise from", "jpeg": "removes the damage of JPEG from", "inpaint": "fills holes in",
    "super_resolve": "enlarges", "restore": "restores", "recognise": "recognises",
}  # fmt: skip
_SETS = {
    "open_photos_train": "104 photographs under CC0, public domain, CC-BY and BSD licences (`open-photos/train`, whose "
    "LICENSES.csv names the authors)",
    "bsd400": "400 grey crops of the Berkeley Segmentation Dataset, which are for research and education only",
}  # fmt: skip
_RESTORES = (
    "It knows the damage named above and no other. What it restores is likely, not what was there: do not read "
    "evidence, text or faces from it that the picture did not show."
)
_RECOGNISES = "It names a class for any image, also for one that shows none of them."


def card(weights: Weights, front_matter: bool = False) -> str:
    """Return the card as Markdown, with the YAML that Hugging Face reads on top where asked for."""
    about = weights.about
    images = "grey images" if about.facts["channels"] == 1 else "colour images"
    net = type(weights.net).__name__
    count = sum(weight.numel() for weight in weights.net.parameters())
    task, trained = about.trained.get("task") or {}, about.trained
    reach = "the whole image" if about.radius is None else f"{about.radius} pixels around each"
    lines = [
        f"# {weights.name}",
        "",
        f"This {net} of {count:,} weights {_PURPOSES[about.purpose]} {images}. It sees {reach}.",
        "",
        "| | |",
        "|---|---|",
        f"| trained on | {_images(task)} |",
        f"| damage | `{_short(trained.get('degradation'))}` |",
        f"| length, seed | {_length(trained)}, {trained.get('seed')} |",
        f"| input | values from 0 to 1, {_channels(weights)} |",
        f"| sha256 | `{weights.sha256}` |",
        "",
        "## Figures",
        "",
        "| images, damage | number | before | after | gain [95 % interval] |",
        "|---|---|---|---|---|",
        *(line for images, row in about.figures.items() for line in _figures(images, row)),
        "",
        "## Limits",
        "",
        _RECOGNISES if about.purpose == "recognise" else _RESTORES,
        "",
    ]
    if not front_matter:
        return "\n".join(lines)
    tags = ["image-to-image", "image-restoration", about.purpose, net.lower()]
    head = ["---", "library_name: recon-images", "pipeline_tag: image-to-image", f"tags: {json.dumps(tags)}", "---", ""]
    return "\n".join([*head, *lines])


def _figures(images: str, row: dict[str, float]) -> list[str]:
    """Write what was measured on some images, a line for each measure."""
    lines = []
    for name in (name for name in row if name in ROWS):
        measure, count = ROWS[name], f"{row['images']:,.0f}"
        after = measure.text(row[name], unit=True)
        if f"{name}_before" in row:
            gained = (measure.text(row[f"{name}_{end}"]) for end in ("low", "high"))
            gain = f"{measure.text(row[name] - row[f'{name}_before'])} [{', '.join(gained)}]"
            lines.append(
                f"| {images}: {measure.label} | {count} | {measure.text(row[f'{name}_before'])} | {after} | {gain} |"
            )
        else:
            lines.append(f"| {images}: {measure.label} | {count} | | {after} | |")
    return lines


def _length(trained: dict[str, Any]) -> str:
    """Write the lengths of a training, one after another where it began with the weights of another run."""
    lengths = [f"{steps:,} steps in batches of {size}" for steps, size in trained.get("lengths", ())]
    return ", then ".join(lengths) or "not recorded"


def _channels(weights: Weights) -> str:
    from recon.export.onnx import metadata

    if weights.about.purpose == "recognise":
        facts = weights.about.facts
        return f"{facts['channels']} channels, {'×'.join(map(str, facts['image_size']))} pixels"
    return metadata(weights)["recon.input"]


def _short(node: Any) -> str:
    """Write a node of the configuration in a line."""
    if isinstance(node, dict):
        name = str(node.get("_target_", "")).rsplit(".", 1)[-1]
        inner = ", ".join(f"{key}={_short(value)}" for key, value in node.items() if key != "_target_")
        return f"{name}({inner})" if name else inner
    if isinstance(node, float):
        return f"{node:.4g}"
    return f"[{', '.join(map(_short, node))}]" if isinstance(node, list) else str(node)


def _images(task: dict[str, Any]) -> str:
    """Say what a net was trained on, without the places of somebody's disk."""
    path = str(task.get("path") or task.get("_target_", "unknown")).rsplit("/", 1)[-1].rsplit(".", 1)[-1]
    return _SETS.get(path, path)
