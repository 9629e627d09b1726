"""The weights that come along, as a table."""

from recon.restore.weights import load_weights, names

_PURPOSES = {"denoise": "noise", "jpeg": "JPEG damage", "inpaint": "holes", "super_resolve": "size", "restore": "other",
             "recognise": "classes"}  # fmt: skip


def print_weights() -> None:
    """Print the weights that come along: what they are for, of which images, and how large."""
    from rich.console import Console
    from rich.table import Table

    table = Table("weights", "for", "images", "net", "sees, pixels", box=None)
    for name in names():
        weights = load_weights(name)
        about = weights.about
        images = {1: "grey", 3: "colour"}[about.facts["channels"]]
        net = f"{type(weights.net).__name__}, {sum(weight.numel() for weight in weights.net.parameters()):,} weights"
        table.add_row(name, _PURPOSES[about.purpose], images, net, "all" if about.radius is None else str(about.radius))
    Console().print(table)
