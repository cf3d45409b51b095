"""`ssvq evaluate` on a real local Ray cluster, over every layout and both tilings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ssvq.cli import main
from ssvq.config import EvaluateConfig, ReadLimits
from ssvq.errors import ExitCode, InputError
from ssvq.evaluation.collect import TILES
from ssvq.evaluation.job import evaluate_model
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster
from ssvq.inference.scorer import TileScorer
from ssvq.io import storage
from ssvq.model import bundle as bundles
from ssvq.scores.heat_map import stitch
from tests.support.images import write_image
from tests.support.rows import score_map_of
from tests.support.surveys import TILE, make_bundle, make_survey, paint

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]


def config(root: Path, **changes: Any) -> EvaluateConfig:
    layout = (
        {} if {"mvtec", "manifest"} & set(changes) else {"images": str(root / "images"), "masks": str(root / "masks")}
    )
    settings = {"model": str(root / "bundle"), "bootstrap": 50, "precision": "fp32", **layout}
    return EvaluateConfig(**settings | changes)


def whole_bundle(location: Path) -> None:
    """A bundle for images taken whole."""
    bundle = make_bundle(location)
    whole = bundle.model_copy(update={"preprocessing": bundle.preprocessing.model_copy(update={"whole_images": True})})
    storage.put_text(str(location / bundles.DESCRIPTION), whole.model_dump_json() + "\n")


def explicit_pixels(root: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Heat and label of every pixel of a survey whose sides are whole numbers of tiles, by the scorer alone."""
    scorer = TileScorer.from_bundle(str(root / "bundle"), 16, "cpu", "fp32")
    heat, labels = [], []
    for path in sorted((root / "images").iterdir()):
        with open_raster(str(path)) as image:
            pixels, _ = read_rgb(image, 0, 0, image.width, image.height)
        height, width = pixels.shape[:2]
        rows = []
        for y in range(0, height, TILE):
            for x in range(0, width, TILE):
                scores = scorer.score(pixels[None, y : y + TILE, x : x + TILE])
                assert scores.score_map is not None
                place = {"x": x, "y": y, "width": TILE, "height": TILE, "tiling_id": f"{TILE}-{TILE}-shift"}
                rows.append({**place, "score": scores.score[0], "score_map": scores.score_map[0]})
        values = stitch(score_map_of(rows), width, height).values.astype(np.float16)
        heat.append(np.kron(values, np.ones((4, 4))).ravel())
        with open_raster(str(root / "masks" / path.with_suffix(".png").name)) as mask:
            labels.append(mask.read(1).ravel() > 0)
    return np.concatenate(heat), np.concatenate(labels)


def test_figures_and_files_of_images_with_masks(tmp_path: Path) -> None:
    make_survey(tmp_path, images=6)
    bundle = make_bundle(tmp_path / "bundle")
    predictions, plot = tmp_path / "out" / "tiles.parquet", tmp_path / "pictures" / "plot.png"
    report = evaluate_model(config(tmp_path, predictions=str(predictions), plot=plot))
    heat, labels = explicit_pixels(tmp_path)
    assert report["pixel_auroc"] == pytest.approx(roc_auc_score(labels, heat), abs=1e-4)
    assert report["regions"] == 3
    assert 0 < report["aupro"] <= 1
    assert report["clear_tiles"] is None, "which --normal-fraction asks for"
    assert (report["images"], report["failed_images"], report["model_id"]) == (6, 0, bundle.model_id)

    tiles = pq.read_table(predictions)
    assert tiles.schema.equals(TILES)
    assert len(tiles) == report["tiles"] == 6 * 8
    anomalous = tiles["anomalous"].to_numpy()
    assert report["auroc"] == pytest.approx(roc_auc_score(anomalous, tiles["score"].to_numpy()))
    rows = tiles.to_pylist()
    assert {row["image"] for row in rows} == {f"{i:02}.png" for i in range(6)}
    for row in rows:
        rough = int(row["image"][:2]) % 2 == 1 and row["x"] < 64
        assert (row["anomalous"], row["anomalous_fraction"], row["defect"]) == (rough, rough, "2" if rough else None)
        assert (row["width"], row["height"], row["group"]) == (TILE, TILE, None)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in predictions.parent.iterdir()} == {"tiles.parquet"}
    assert {path.name for path in plot.parent.iterdir()} == {"plot.png"}


def test_images_of_many_parts_have_the_pixels_of_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name, profile in (("tiled.tif", {"tiled": True, "blockxsize": 64, "blockysize": 64}), ("lines.png", {})):
        pixels, mask = paint(rng, 5 * TILE, 32 * TILE, rough=True)  # 160 tiles
        write_image(tmp_path / "images" / name, pixels, **profile)
        write_image(tmp_path / "masks" / f"{name.split('.')[0]}.png", mask)
    make_bundle(tmp_path / "bundle")
    report = evaluate_model(config(tmp_path, read=ReadLimits(part_pixels=64 * TILE**2)))
    heat, labels = explicit_pixels(tmp_path)
    assert report["pixel_auroc"] == pytest.approx(roc_auc_score(labels, heat), abs=1e-4)
    assert (report["tiles"], report["regions"]) == (320, 2)


def test_whole_images_of_the_mvtec_layout(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "bottle"
    for i in range(4):
        write_image(root / "train" / "good" / f"{i}.png", paint(rng, 40, 60, rough=False)[0])
        write_image(root / "test" / "good" / f"{i}.png", paint(rng, 40, 60, rough=False)[0])
        for defect in ("crack", "stain"):
            pixels, mask = paint(rng, 40, 60, rough=True)
            mask[3:] = 0  # far less than half of the image
            write_image(root / "test" / defect / f"{i}.png", pixels)
            write_image(root / "ground_truth" / defect / f"{i}_mask.png", mask)
    whole_bundle(tmp_path / "bundle")
    report = evaluate_model(config(tmp_path, mvtec=str(root), predictions=str(tmp_path / "tiles.parquet")))
    assert report["tiles"] == report["images"] == 16
    assert report["anomalous_tiles"] == 8, "the label of a whole image is that of its folder"
    assert set(report["by_defect"]) == {"crack", "stain"}
    assert report["regions"] == 8, "images without a mask are normal in all pixels"
    assert 0 <= report["pixel_auroc"] <= 1
    tiles = pq.read_table(tmp_path / "tiles.parquet").to_pylist()
    assert {(row["x"], row["y"], row["width"], row["height"]) for row in tiles} == {(0, 0, 60, 40)}


def test_labels_without_masks_give_no_pixel_figures(tmp_path: Path) -> None:
    survey = make_survey(tmp_path, images=6)
    lines = ["image,label,group", *(f"images/{i:02}.png,{'crack' if i % 2 else 'normal'},g{i // 2}" for i in range(6))]
    (survey / "labels.csv").write_text("\n".join(lines) + "\n")
    make_bundle(tmp_path / "bundle")
    report = evaluate_model(
        config(tmp_path, manifest=str(survey / "labels.csv"), predictions=str(tmp_path / "tiles.parquet"))
    )
    assert (report["normal_tiles"], report["anomalous_tiles"]) == (24, 24)
    assert report["pixel_auroc"] is None
    assert report["aupro"] is None
    assert report["by_defect"] is None
    tiles = pq.read_table(tmp_path / "tiles.parquet")
    assert set(tiles["group"].to_pylist()) == {"g0", "g1", "g2"}


def test_only_images_of_a_split(tmp_path: Path) -> None:
    make_survey(tmp_path, images=4)
    rows = (f"images/{i:02}.png,masks/{i:02}.png,{'test' if i < 2 else 'train'}" for i in range(4))
    (tmp_path / "m.csv").write_text("\n".join(["image,mask,split", *rows]) + "\n")
    make_bundle(tmp_path / "bundle")
    assert evaluate_model(config(tmp_path, manifest=str(tmp_path / "m.csv"), split="test"))["images"] == 2
    with pytest.raises(InputError, match=r"m\.csv: no image of split validation could be used"):
        evaluate_model(config(tmp_path, manifest=str(tmp_path / "m.csv"), split="validation"))


def test_clear_tiles_are_a_section_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        pixels, mask = paint(rng, TILE, 4 * TILE, rough=False)
        mask[:, :8] = 1  # a quarter of the first tile
        mask[:, TILE : 2 * TILE] = i % 2
        write_image(tmp_path / "images" / f"{i}.png", pixels)
        write_image(tmp_path / "masks" / f"{i}.png", mask)
    make_bundle(tmp_path / "bundle")
    report = evaluate_model(config(tmp_path, normal_fraction=0.1))
    assert (report["normal_tiles"], report["anomalous_tiles"]) == (14, 2)
    clear = report["clear_tiles"]
    assert (clear["normal_fraction"], clear["normal_tiles"], clear["anomalous_tiles"]) == (0.1, 10, 2)
    assert set(clear["intervals"]) == {"auroc", "average_precision"}


def test_of_an_image_that_fails_no_tile_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_survey(tmp_path, images=4)
    path = tmp_path / "images" / "03.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    make_bundle(tmp_path / "bundle")
    arguments = ["evaluate", "--model", str(tmp_path / "bundle"), "--images", str(tmp_path / "images")]
    arguments += ["--masks", str(tmp_path / "masks"), "--bootstrap", "50", "--json"]
    assert main(arguments) == ExitCode.SOME_IMAGES_FAILED
    output = capsys.readouterr()
    assert "skipped 03.png" in output.err
    report = json.loads(output.out)
    assert (report["images"], report["failed_images"], report["tiles"], report["regions"]) == (3, 1, 24, 1)


def test_json_has_null_for_what_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "images" / "a.png", np.full((TILE, TILE, 3), 90, np.uint8))
    make_bundle(tmp_path / "bundle")
    arguments = ["evaluate", "--model", str(tmp_path / "bundle"), "--images", str(tmp_path / "images")]
    assert main([*arguments, "--json"]) == ExitCode.DONE
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert report["auroc"] is None
    assert report["intervals"]["auroc"] == [None, None]
    assert report["tiles"] == 1


@pytest.mark.parametrize("setting", ["plot", "predictions"])
def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path: Path, setting: str) -> None:
    make_survey(tmp_path, images=2)
    make_bundle(tmp_path / "bundle")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=f"--{setting} .* cannot be written"):
        evaluate_model(config(tmp_path, **{setting: str(tmp_path / "file" / "x")}))
