"""The synthetic survey: files, truth, determinism, and that colour alone does not find its rust."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.stats import rankdata

from ssvq.demo.synthetic import paint_orthomosaic, paint_steel, paint_survey, write_survey


def _read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return np.moveaxis(source.read(), 0, 2)


def _auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    ranks, count = rankdata(scores), int(positive.sum())
    wins = ranks[positive].sum() - count * (count + 1) / 2
    return float(wins / (count * (positive.size - count)))


@pytest.mark.parametrize("size", [(96, 128), (131, 77), (33, 40), (512, 300)])
@pytest.mark.parametrize("corrosion", [0.0, 0.05, 0.6, 1.0])
def test_paint_steel_gives_rgb_and_mask(size: tuple[int, int], corrosion: float) -> None:
    rgb, rust = paint_steel(np.random.default_rng(3), *size, corrosion=corrosion)
    assert rgb.shape == (*size, 3)
    assert rgb.dtype == np.uint8
    assert rust.shape == size
    assert rust.dtype == np.bool_
    assert rgb.std() > 3


def test_same_generator_same_picture() -> None:
    first = paint_steel(np.random.default_rng(5), 96, 128, corrosion=0.4)
    second = paint_steel(np.random.default_rng(5), 96, 128, corrosion=0.4)
    other = paint_steel(np.random.default_rng(6), 96, 128, corrosion=0.4)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("seed", range(6))
def test_corrosion_sets_the_share_of_rust(seed: int) -> None:
    shares = [
        float(paint_steel(np.random.default_rng(seed), 256, 320, corrosion=corrosion)[1].mean())
        for corrosion in (0.0, 0.1, 0.5, 1.0)
    ]
    assert shares[0] == 0.0
    assert 0.0 < shares[1] < 0.2
    assert shares[1] < shares[2] < shares[3]
    assert shares[3] > 0.5


def test_survey_files_hold_the_pictures(tmp_path: Path) -> None:
    ticks: list[int] = []
    paths = write_survey(tmp_path, seed=7, photographs=4, height=96, width=128, progress=ticks.append)
    assert ticks == [1, 1, 1, 1]
    assert [path.parent for path in paths] == [tmp_path / "images"] * 4
    for path, picture in zip(paths, paint_survey(7, 4, 96, 128), strict=True):
        assert path.name == f"{picture.name}.jpg"
        stored = _read(path)
        assert stored.shape == picture.rgb.shape
        assert np.abs(stored.astype(int) - picture.rgb).mean() < 8  # JPEG is lossy
        mask = _read(tmp_path / "masks" / f"{picture.name}.png")
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, picture.rust[:, :, None] * np.uint8(255))
    written = sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file())
    assert written == [".jpg"] * 4 + [".png"] * 4


def test_survey_is_the_same_for_a_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_survey(tmp_path / name, seed=seed, photographs=2, height=96, width=128, orthomosaic=(96, 160))
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 6
    same = [(tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files]
    assert all(same)
    images = [file for file in files if file.parent.name == "images"]
    assert all((tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes() for file in images)


def test_orthomosaic_is_a_tiled_georeferenced_tiff(tmp_path: Path) -> None:
    paths = write_survey(tmp_path, seed=2, photographs=0, orthomosaic=(600, 1100))
    assert paths == [tmp_path / "images" / "orthomosaic.tif"]
    with rasterio.open(paths[0]) as source:
        assert (source.height, source.width, source.count) == (600, 1100, 3)
        assert source.crs.to_epsg() == 32633
        assert source.transform.a == pytest.approx(0.002)
        assert source.transform.e == pytest.approx(-0.002)
        assert source.block_shapes == [(512, 512)] * 3
    expected = paint_orthomosaic(2, 600, 1100)
    mask = _read(tmp_path / "masks" / "orthomosaic.png")
    np.testing.assert_array_equal(mask[:, :, 0], expected.rust * np.uint8(255))
    assert not list(tmp_path.rglob("*.aux.xml"))


def test_colour_alone_does_not_find_the_rust() -> None:
    tile, redness, rusty = 128, [], []
    for seed in (1, 2):
        for picture in paint_survey(seed, 16, 384, 512):
            colour = picture.rgb.astype(np.float32)
            for y in range(0, 384, tile):
                for x in range(0, 512, tile):
                    window = np.s_[y : y + tile, x : x + tile]
                    redness.append((colour[window][..., 0] - colour[window][..., 2]).mean())
                    rusty.append(picture.rust[window].mean() >= 0.5)
    positive = np.array(rusty)
    assert 0.12 < positive.mean() < 0.4
    assert _auroc(np.array(redness), positive) < 0.85
