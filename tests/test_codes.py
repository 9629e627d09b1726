"""Codes in use: each measure against scikit-learn or a case whose result is known, and the commands."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, Compose, Typed
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from recon import build
from recon.actions.train import train
from recon.codes.maps import flat, picture
from recon.codes.measured import MEASURES, Labelled, matched_accuracy, measured, require_classes
from recon.codes.retrieval import average_precision, nearest, precision, voted
from recon.errors import InputError
from recon.report import write

KINDS = {
    "dense": ["model=autoencoder"],
    "spatial": ["model=autoencoder", "model/net=spatial_autoencoder", "model.net.widths=[8]", "model/quantiser=fsq"],
    "vae": ["model=vae", "model.net.conditional=true"],
    "restoration": ["model=restoration"],
}


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, words in KINDS.items():
        train(compose(*words, *QUICK), folder / name, {})
    return {name: folder / name for name in KINDS}


def vectors(count: int, size: int, seed: int) -> torch.Tensor:
    return 100 + torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def test_the_nearest_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.codes.retrieval._CELLS", 700)  # several blocks
    gallery, queries = vectors(200, 5, 0), vectors(31, 5, 1)
    distances, places = nearest(gallery, queries, 7)
    expected, found = (
        NearestNeighbors(n_neighbors=7, algorithm="brute").fit(gallery.double()).kneighbors(queries.double())
    )
    assert np.array_equal(places.numpy(), found)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-3)


def test_average_precision_and_vote_are_those_of_scikit_learn() -> None:
    gallery, queries = vectors(200, 5, 0), vectors(31, 5, 1)
    generator = torch.Generator().manual_seed(2)
    labels, wanted = torch.randint(0, 4, (200,), generator=generator), torch.randint(0, 5, (31,), generator=generator)
    found = average_precision(gallery, labels, queries, wanted)
    for row, want in enumerate(wanted.tolist()):
        relevant = (labels == want).numpy()
        if not relevant.any():
            assert found[row].isnan()
            continue
        scores = -torch.cdist(queries[row : row + 1].double(), gallery.double())[0].numpy()
        assert float(found[row]) == pytest.approx(average_precision_score(relevant, scores), rel=1e-6)
    near = labels[nearest(gallery, queries, 9)[1]]
    classifier = KNeighborsClassifier(9, algorithm="brute").fit(gallery.numpy(), labels.numpy())
    assert np.array_equal(voted(near, 4).numpy(), classifier.predict(queries.numpy()))
    assert precision(near, wanted).tolist() == pytest.approx(
        [float((row == want).double().mean()) for row, want in zip(near, wanted, strict=True)]
    )


def test_codes_that_are_the_class_are_perfect_and_noise_is_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    label = [torch.randint(0, 5, (count,), generator=generator) for count in (2000, 1000)]
    pure = [Labelled(10 * torch.eye(5)[each] + 0.01 * vectors(len(each), 5, 1), each) for each in label]
    found = measured(pure[0], pure[1], 10)
    assert found.keys() == MEASURES.keys()
    for name, each in found.items():
        assert each == pytest.approx((1.0, 1.0, 1.0)), name
    noise = [Labelled(vectors(len(each), 5, seed), each) for seed, each in enumerate(label, 5)]
    found = measured(noise[0], noise[1], 10)
    for name in ("precision", "map", "knn_accuracy", "probe_accuracy"):
        assert found[name].value == pytest.approx(0.2, abs=0.05), name
        assert found[name].low < found[name].value < found[name].high
    assert abs(found["cluster_ari"].value) < 0.02
    assert found["cluster_nmi"].value < 0.05
    # Of a share p of M images the interval is that of the normal law.
    share = found["knn_accuracy"]
    expected = 2 * 1.96 * (share.value * (1 - share.value) / 1000) ** 0.5
    assert share.high - share.low == pytest.approx(expected, rel=0.15)


def test_clusters_are_matched_one_to_one() -> None:
    label = np.repeat(np.arange(4), 25)
    assert matched_accuracy(label, (label + 1) % 4) == 1
    assert matched_accuracy(label, np.zeros(100, int)) == 0.25
    assert matched_accuracy(label, np.arange(100) % 4) == pytest.approx(0.28, abs=0.02)


def test_labels_that_do_not_suffice_are_refused() -> None:
    some = torch.tensor([0, 1, 0])
    for train_label, test_label, k, said in (
        (some, torch.tensor([2, 2, -1]), 1, "its test images have the label 2 alone, and two classes are needed"),
        (torch.tensor([-1, -1]), some, 1, "its training images have no label"),
        (some, some, 4, r"k: 4 neighbours are more than there are training images \(3\)"),
    ):
        with pytest.raises(InputError, match=said):
            require_classes(train_label, test_label, k)


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (5, 2), (40, 1), (60, 7)])
def test_any_codes_have_a_map(shape: tuple[int, int]) -> None:
    places = flat(vectors(*shape, seed=0).numpy())
    assert places.keys() == ({"PCA", "t-SNE"} if shape[0] >= 5 else {"PCA"})
    assert all(points.shape == (shape[0], 2) and np.isfinite(points).all() for points in places.values())
    drawn = picture(places, np.arange(shape[0]) % 3 - 1, ("first", "a name that is much too long for a legend"))
    assert len(set(drawn.getdata())) > 3


@pytest.mark.parametrize("kind", ["dense", "spatial", "vae"])
def test_codes_are_written_and_measured(kind: str, runs: dict[str, Path], typed: Typed) -> None:
    status, output, errors = typed("action=embed", f"run={runs[kind]}", "accelerator=cpu", "k=5")
    assert status == 0, errors
    assert "precision@5" in output
    assert "embed: codes of 1,257 training and 360 test images" in output
    module = build.trained(runs[kind])
    with np.load("codes/codes.npz") as arrays:
        codes, label = arrays["test_codes"], arrays["test_label"]
        assert arrays["train_codes"].shape == (1257, codes.shape[1])
        assert np.array_equal(arrays["test_index"], np.arange(360))
    assert tuple(module.facts["image_size"]) == (8, 8)
    if kind == "spatial":
        assert codes.shape[1] == 8 * 16
        assert len(np.unique(codes.round(4))) <= 8, "quantised"
    with open("codes/codes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["label"]) for row in rows] == label.tolist()
    np.testing.assert_allclose([float(row["code_0"]) for row in rows], codes[:, 0], rtol=1e-4)
    assert {"pca_x", "pca_y", "tsne_x", "tsne_y"} < rows[0].keys()
    with open("codes/measures.csv", newline="") as file:
        found = list(csv.DictReader(file))
    size = codes.shape[1]
    assert {row["vectors"] for row in found} == {f"code ({size})", "pixels (64)", f"PCA ({min(size, 64)})"}
    assert {row["measure"] for row in found} == set(MEASURES)
    pixels = {row["measure"]: float(row["value"]) for row in found if row["vectors"] == "pixels (64)"}
    assert pixels["knn_accuracy"] > 0.93
    assert pixels["probe_accuracy"] > 0.85
    with np.load(runs[kind] / "map.npz") as arrays:
        assert arrays["image"].shape == (360, 8, 8, 1)
        first = (load_digits().images * 255 / 16).astype(np.uint8)
        assert (np.abs(first[:, None] - arrays["image"][None, :3, ..., 0].astype(int)).max((2, 3)).min(0) <= 1).all()
        assert arrays["label"].tolist() == label.tolist()
        np.testing.assert_allclose(arrays["PCA"][:, 0], [float(row["pca_x"]) for row in rows], rtol=1e-4, atol=1e-6)
    assert "The map of the codes" in write([runs[kind]], Path("report.html")).read_text()
    for name in ("map", "neighbours"):
        with Image.open(f"codes/{name}.png") as drawn:
            assert drawn.width > 500


def test_an_image_finds_itself(runs: dict[str, Path], typed: Typed, compose: Compose) -> None:
    config_words = ("accelerator=cpu", f"run={runs['dense']}")
    typed("action=embed", *config_words, "measure=false")
    assert not Path("codes/measures.csv").exists()
    with np.load("codes/codes.npz") as arrays:
        place, label = int(arrays["train_index"][70]), int(arrays["train_label"][70])
    config = compose(*KINDS["dense"])
    task = build.task(config)
    data = build.data(config, task, build.degradation(config, task), build.trained(runs["dense"]))
    pixels = data.training_images().look_at(torch.tensor([place])).pair.clean[0, 0] * 255
    Image.fromarray(pixels.round().byte().numpy()).save("query.png")
    status, output, errors = typed("action=search", *config_words, "query=query.png", "k=3")
    assert status == 0, errors
    first = output.splitlines()[0]
    assert first.startswith(f"training image {place}, class {label}, distance ")
    assert float(first.rsplit(" ", 1)[1]) < 1e-2
    assert Path("found.png").is_file()
    Image.fromarray(load_digits().images[0].astype(np.uint8)).resize((20, 11)).save("other.png")
    assert "other.png is scaled to 8×8 pixels" in typed("action=search", *config_words, "query=other.png")[1]


def test_what_cannot_be_embedded_is_refused(runs: dict[str, Path], typed: Typed, image_folder: Path) -> None:
    run = f"run={runs['dense']}"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("query.png")
    for words, said in (
        (
            ("action=embed", f"run={runs['restoration']}"),
            "RestorationModule makes no code of an image; choose a run of",
        ),
        (("action=search", f"run={runs['restoration']}", "query=query.png"), "makes no code of an image"),
        (("action=embed", run, "k=0"), "k: 0 is out of range"),
        (("action=embed", run, "k=2000"), "k: 2000 neighbours are more than there are training images (1,257)"),
        (("action=search", run), "query: nothing is given"),
        (("action=search", run, "query=none.png"), "none.png"),
        (("action=search", run, "query=query.png", "output=a.jpg"), "written as .png"),
        (("action=embed", run, "task=folder", f"task.path={image_folder}"), "16×16"),
    ):
        assert said in typed.refused(*words, "accelerator=cpu")
    assert not Path("codes").exists()
