"""`ssvq findings --previous`: surveys of one asset, by the ground, by a key, by photographs that are registered."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine

from ssvq.cli import main
from ssvq.config import QueryConfig
from ssvq.errors import ExitCode
from ssvq.io import storage
from ssvq.results.findings.work import Shares
from ssvq.results.query import query
from ssvq.scores.findings import FINDINGS
from ssvq.scores.layout import Partition
from tests.support.heat import MODEL, heat_of_mask, write_heat

WIDTH, HEIGHT = 640, 512
TILING = "64-64-shift"
THEN, NOW = "2025", "2026"

Mask = NDArray[np.bool_]
Disc = tuple[float, float, float]  # x, y, radius


def discs(*places: Disc, width: int = WIDTH, height: int = HEIGHT) -> Mask:
    y, x = np.mgrid[:height, :width] + 0.5
    mask = np.zeros((height, width), bool)
    for cx, cy, radius in places:
        mask |= np.hypot(x - cx, y - cy) < radius
    return mask


def run(out: Path, *arguments: object, code: ExitCode = ExitCode.DONE) -> None:
    assert main(["findings", str(out), *map(str, arguments)]) == code


def compare(out: Path, *arguments: object, code: ExitCode = ExitCode.DONE) -> None:
    run(out, "--survey", THEN)
    run(out, "--survey", NOW, "--previous", THEN, *arguments, code=code)


def rows_of(out: Path, survey: str = NOW, *, gone: bool = False) -> list[dict[str, Any]]:
    """Rows of a table, from left to right and by image."""
    partition = Partition(str(out), survey, MODEL, TILING)
    table = pq.ParquetFile(partition.gone if gone else partition.findings).read()
    assert table.schema.equals(FINDINGS)
    assert b"geo" in table.schema.metadata
    return sorted(table.to_pylist(), key=lambda row: (row["image_uri"], row["x"]))


def changes_of(out: Path) -> list[str | None]:
    return [row["change"] for row in rows_of(out)]


# By the ground

METRES = 0.02
PLACE = ("EPSG:32633", Affine(METRES, 0, 500_000, 0, -METRES, 4_000_000))


def moved_place(right: float, down: float, scale: float, turn: float = 0.0) -> tuple[str, Affine]:
    """A raster whose first pixel lies at pixel (right, down) of PLACE, with pixels `scale` as large."""
    return PLACE[0], PLACE[1] * Affine.translation(right, down) * Affine.rotation(turn) * Affine.scale(scale)


def seen_at(mask: Mask, place: tuple[str, Affine], width: int = WIDTH, height: int = HEIGHT) -> Mask:
    """What a raster at another place shows of a mask at PLACE."""
    y, x = np.mgrid[:height, :width] + 0.5
    cols, rows = ~PLACE[1] * place[1] * (x, y)
    inside = (cols >= 0) & (cols < mask.shape[1]) & (rows >= 0) & (rows < mask.shape[0])
    rows, cols = np.clip(rows, 0, mask.shape[0] - 1), np.clip(cols, 0, mask.shape[1] - 1)
    return mask[rows.astype(int), cols.astype(int)] & inside


@pytest.mark.parametrize(
    "place",
    [PLACE, moved_place(37, 21, 1), moved_place(20, 20, 0.7), moved_place(-150, -100, 1.4), moved_place(150, 0, 1, 25)],
    ids=["same", "shifted", "nearer", "farther", "turned"],
)
def test_growth_on_the_ground(tmp_path: Path, place: tuple[str, Affine], capsys: pytest.CaptureFixture[str]) -> None:
    before = discs((200, 180, 40), (330, 300, 30))
    after = discs((200, 180, 40 * 1.3**0.5), (330, 300, 30), (350, 120, 25))
    write_heat(tmp_path, THEN, "mosaic.tif", heat_of_mask(before), place=PLACE)
    write_heat(tmp_path, NOW, "mosaic.tif", heat_of_mask(seen_at(after, place)), place=place)
    compare(tmp_path)
    rows = {row["change"]: row for row in rows_of(tmp_path)}
    assert set(rows) == {"grown", "unchanged", "new"}
    assert rows["grown"]["growth"] == pytest.approx(1.3, rel=0.05)
    assert rows["unchanged"]["growth"] == pytest.approx(1, abs=0.05)
    square_metres = rows["grown"]["previous_area"] * rows["grown"]["area_m2"] / rows["grown"]["area_pixels"]
    assert square_metres == pytest.approx(np.pi * (40 * METRES) ** 2, rel=0.05)
    by_id = {row["finding_id"]: row for row in rows_of(tmp_path, THEN)}
    assert by_id[rows["grown"]["previous_id"]]["area_m2"] == pytest.approx(square_metres, rel=0.02)
    assert {row["previous_survey"] for row in rows.values()} == {THEN}
    assert "since '2025': 1 new, 1 grown, 1 unchanged\n" in capsys.readouterr().out


def test_in_another_system_of_coordinates(tmp_path: Path) -> None:
    """Web Mercator stretches lengths at this latitude by a quarter; the ground is the same."""
    mask = discs((200, 180, 40), (400, 300, 30))
    (x,), (y,) = rasterio.warp.transform(PLACE[0], "EPSG:3857", [PLACE[1].c], [PLACE[1].f])
    stretched = METRES / np.cos(np.radians(36.14))
    write_heat(tmp_path, THEN, "a.tif", heat_of_mask(mask), place=PLACE)
    write_heat(
        tmp_path, NOW, "b.tif", heat_of_mask(mask), place=("EPSG:3857", Affine(stretched, 0, x, 0, -stretched, y))
    )
    compare(tmp_path)
    assert changes_of(tmp_path) == ["unchanged", "unchanged"]


def test_what_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = moved_place(10, 10, 1)
    write_heat(tmp_path, THEN, "a.tif", heat_of_mask(discs((200, 180, 40), (400, 300, 30))), place=PLACE)
    write_heat(tmp_path, NOW, "b.tif", heat_of_mask(discs((190, 170, 40))), place=place)
    compare(tmp_path)
    assert changes_of(tmp_path) == ["unchanged"]
    (gone,) = rows_of(tmp_path, gone=True)
    before = rows_of(tmp_path, THEN)[1]
    assert (gone["change"], gone["previous_id"], gone["finding_id"]) == (
        "gone",
        before["finding_id"],
        before["finding_id"],
    )
    assert (gone["survey"], gone["image_uri"], gone["previous_survey"]) == (NOW, "/2026/b.tif", THEN)
    assert (gone["area_pixels"], gone["area_m2"], gone["growth"], gone["tiles"]) == (0, 0, 0, 0)
    assert gone["previous_area"] == pytest.approx(before["area_pixels"])
    assert (gone["x"], gone["y"]) == (before["x"] - 10, before["y"] - 10)
    assert (gone["severity"], gone["state"], gone["geometry"]) == tuple(
        before[c] for c in ("severity", "state", "geometry")
    )
    assert shapely.from_wkb(gone["outline"]).bounds[:2] == (gone["x"], gone["y"])
    assert "since '2025': 1 unchanged, 1 gone\n" in capsys.readouterr().out


def test_places_that_were_not_scored_are_not_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    then = heat_of_mask(discs((200, 180, 40), (520, 300, 30)))
    then[:, : 320 // 4] = np.nan
    now = heat_of_mask(discs((200, 180, 40)))
    now[:, 420 // 4 :] = np.nan
    write_heat(tmp_path, THEN, "a.tif", then, place=PLACE)
    write_heat(tmp_path, NOW, "a.tif", now, place=PLACE)
    compare(tmp_path)
    assert changes_of(tmp_path) == [None]
    assert rows_of(tmp_path)[0]["previous_survey"] == THEN
    assert rows_of(tmp_path, gone=True) == []
    assert "nothing to compare; 1 finding at places not seen then" in capsys.readouterr().out


def test_a_mosaic_against_its_parts(tmp_path: Path) -> None:
    """One image of now, four overlapping ones of then, and the other way round."""
    mask = discs((200, 180, 40), (330, 260, 30), (500, 400, 20))
    for right in (0, 256):
        for down in (0, 192):
            place = moved_place(right, down, 1)
            part = seen_at(mask, place, 384, 320)
            write_heat(tmp_path, THEN, f"{right}-{down}.tif", heat_of_mask(part), place=place)
    write_heat(tmp_path, NOW, "whole.tif", heat_of_mask(mask), place=PLACE)
    compare(tmp_path)
    assert changes_of(tmp_path) == ["unchanged"] * 3
    assert [row["growth"] for row in rows_of(tmp_path)] == pytest.approx([1, 1, 1])
    run(tmp_path, "--survey", THEN, "--previous", NOW)
    assert {row["change"] for row in rows_of(tmp_path, THEN)} == {"unchanged"}
    assert rows_of(tmp_path, THEN, gone=True) == []


def test_images_elsewhere_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heat = heat_of_mask(discs((200, 180, 40)))
    write_heat(tmp_path, THEN, "a.tif", heat, place=PLACE)
    write_heat(tmp_path, NOW, "a.tif", heat, place=PLACE)
    write_heat(tmp_path, NOW, "b.tif", heat, place=moved_place(5000, 0, 1))
    write_heat(tmp_path, NOW, "c.jpg", heat)
    compare(tmp_path)
    assert changes_of(tmp_path) == ["unchanged", None, None]
    shown = capsys.readouterr().err
    assert "not compared: 1 image (b.tif): no image of '2025' shows their ground" in shown
    assert "not compared: 1 image (c.jpg): they have neither a georeference nor a position" in shown


# By a key


def test_one_view_by_a_key(tmp_path: Path) -> None:
    for name, growth in (("line3-cam1-0001.png", 1.3), ("line3-cam2-0001.png", 1.0)):
        later = discs((200, 180, 40 * growth**0.5))
        write_heat(tmp_path, THEN, name, heat_of_mask(discs((200, 180, 40))))
        write_heat(tmp_path, NOW, name.replace("0001", "0733"), heat_of_mask(later))
    compare(tmp_path, "--pair-pattern", r"(cam\d+)-\d+", "--same-view")
    assert changes_of(tmp_path) == ["grown", "unchanged"]
    assert rows_of(tmp_path)[0]["growth"] == pytest.approx(1.3, rel=0.05)


def test_one_view_with_more_pixels(tmp_path: Path) -> None:
    write_heat(tmp_path, THEN, "cam1.png", heat_of_mask(discs((200, 180, 40))))
    twice = discs((400, 360, 80), width=2 * WIDTH, height=2 * HEIGHT)
    write_heat(tmp_path, NOW, "cam1.png", heat_of_mask(twice))
    compare(tmp_path, "--pair-pattern", "cam1", "--same-view")
    assert changes_of(tmp_path) == ["unchanged"]


def test_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write_heat(tmp_path, THEN, f"{number}.png", heat_of_mask(discs((200, 180, 40), (400, 300, 30))))
        write_heat(tmp_path, NOW, f"{number}.png", heat_of_mask(discs((200, 180, 40 + 4 * number))))
    compare(tmp_path, "--pair-pattern", r"\d\.png", "--same-view")
    alone = rows_of(tmp_path), rows_of(tmp_path, gone=True)
    monkeypatch.setattr("ssvq.results.findings.job.SHARES", Shares(at_once=2, alone=2))
    compare(tmp_path, "--pair-pattern", r"\d\.png", "--same-view")
    assert (rows_of(tmp_path), rows_of(tmp_path, gone=True)) == alone
    assert [len(rows) for rows in alone] == [5, 5]


# Photographs

RIGHT = {  # from pixels of then to pixels of now
    "same": np.eye(3),
    "shifted": np.array([[1, 0, -70], [0, 1, 45], [0, 0, 1.0]]),
    "nearer": np.array([[1.35, 0, -90], [0, 1.35, -60], [0, 0, 1.0]]),
    "farther": np.array([[0.75, 0, 80], [0, 0.75, 60], [0, 0, 1.0]]),
    "rolled": np.array([[0.96, -0.25, 60], [0.25, 0.96, -60], [0, 0, 1.0]]),
    "askew": np.array([[1.05, 0.05, -20], [0.02, 1, 10], [1e-4, 8e-5, 1.0]]),
}
LIGHTS = {
    "as before": lambda picture, x, y: picture,
    "darker": lambda picture, x, y: 0.5 * picture - 5,
    "evening": lambda picture, x, y: picture * (1.2 - 0.7 * x)[..., None] * np.array([1.15, 1.0, 0.7]),
    "hazy": lambda picture, x, y: 110 + 0.4 * picture,
}


def wall(seed: int = 0) -> NDArray[np.uint8]:
    """A painted wall with grain, rivets and streaks, uint8 (HEIGHT, WIDTH, 3)."""
    rng = np.random.default_rng(seed)
    grain = sum(
        cv2.resize(rng.normal(0, 9, (HEIGHT // n, WIDTH // n)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        for n in (2, 8, 32)
    )
    picture = np.repeat((140 + grain)[..., None], 3, axis=2) * np.array([0.9, 1.0, 1.05])
    for x, y in rng.uniform((0, 0), (WIDTH, HEIGHT), (60, 2)):
        cv2.circle(picture, (int(x), int(y)), int(rng.integers(3, 8)), (90, 95, 100), -1)
    return np.clip(picture, 0, 255).astype(np.uint8)


def rusted(picture: NDArray[np.uint8], mask: Mask, seed: int) -> NDArray[np.uint8]:
    """The picture with rust of a grain of its own where the mask is."""
    grain = np.random.default_rng(seed).normal(0, 18, (*mask.shape, 1))
    return np.where(mask[..., None], np.clip(np.array([120, 70, 40]) + grain, 0, 255), picture).astype(np.uint8)


def photograph(path: Path, picture: NDArray[np.generic]) -> dict[str, str]:
    """Write a picture, and what the ledger says of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path)
    return {"uri": str(path), "fingerprint": storage.stat(str(path)).version}


def survey_pair(
    tmp_path: Path, frame: NDArray[np.float64], light: str, before: Mask, after: Mask, **columns: Any
) -> Path:
    """Two surveys of one photograph: the later one from elsewhere, in other light, with other noise."""
    out, size = tmp_path / "out", (WIDTH, HEIGHT)
    then = photograph(tmp_path / THEN / "wall-1.png", rusted(wall(), before, 1))
    write_heat(out, THEN, "wall-1.png", heat_of_mask(before), **then, **columns)
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    picture = cv2.warpPerspective(rusted(wall(), after, 2), frame, size, borderMode=cv2.BORDER_REFLECT)
    lit = LIGHTS[light](picture.astype(float), x, y) + np.random.default_rng(3).normal(0, 3, (HEIGHT, WIDTH, 1))
    mask = cv2.warpPerspective(after.astype(np.uint8), frame, size) > 0
    now = photograph(tmp_path / NOW / "wall-1.png", lit)
    write_heat(out, NOW, "wall-1.png", heat_of_mask(mask), **now, **columns)
    return out


@pytest.mark.parametrize(
    ("frame", "light", "growth"),
    [(f, light, (0.7, 1.0, 1.3, 2.0)[(a + b) % 4]) for a, f in enumerate(RIGHT) for b, light in enumerate(LIGHTS)],
)
def test_growth_in_registered_photographs(tmp_path: Path, frame: str, light: str, growth: float) -> None:
    before = discs((330, 250, 50), (430, 160, 28))
    after = discs((330, 250, 50 * growth**0.5), (430, 160, 28))
    out = survey_pair(tmp_path, RIGHT[frame], light, before, after)
    compare(out, "--pair-pattern", r"wall-\d+")
    by_size = sorted(rows_of(out), key=lambda row: -row["previous_area"])
    assert [row["change"] for row in by_size] == [
        {0.7: "shrunk", 1.0: "unchanged", 1.3: "grown", 2.0: "grown"}[growth],
        "unchanged",
    ]
    assert by_size[0]["growth"] == pytest.approx(growth, rel=0.08)
    assert by_size[1]["growth"] == pytest.approx(1, rel=0.1)


def test_photographs_are_found_by_their_positions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = discs((330, 250, 50)), discs((330, 250, 60))
    out = survey_pair(tmp_path, RIGHT["shifted"], "darker", before, after, position=(47.0, 8.0))
    far = photograph(tmp_path / THEN / "far.png", wall(7))
    write_heat(out, THEN, "far.png", heat_of_mask(before), position=(47.0002, 8.0), **far)
    elsewhere = photograph(tmp_path / NOW / "elsewhere.png", wall(9))
    write_heat(out, NOW, "elsewhere.png", heat_of_mask(after), position=(47.001, 8.0), **elsewhere)
    other = photograph(tmp_path / NOW / "other.png", wall(8))
    write_heat(out, NOW, "other.png", heat_of_mask(after), position=(47.00005, 8.0), **other)
    compare(out)
    assert changes_of(out) == [None, None, "grown"]
    shown = capsys.readouterr().err
    assert "not compared: 1 image (elsewhere.png): no image of '2025' was taken within 30 m of theirs" in shown
    assert "not compared: 1 image (other.png): not registered with an image of '2025', too few features" in shown
    assert rows_of(out, gone=True) == [], "what far.png shows, nobody has seen since"


def test_source_images_that_are_gone_or_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = discs((330, 250, 50))
    out = survey_pair(tmp_path, RIGHT["same"], "hazy", mask, mask)
    for name in ("wall-2.png", "wall-3.png"):
        for survey in (THEN, NOW):
            write_heat(out, survey, name, heat_of_mask(mask), **photograph(tmp_path / survey / name, wall()))
    (tmp_path / THEN / "wall-2.png").unlink()
    photograph(tmp_path / NOW / "wall-3.png", wall(5))
    compare(out, "--pair-pattern", r"wall-\d+", code=ExitCode.SOME_IMAGES_FAILED)
    assert changes_of(out) == ["unchanged", None, None]
    shown = capsys.readouterr().err
    assert f"warning: {tmp_path}/2025/wall-2.png is missing" in shown
    assert f"warning: {tmp_path}/2026/wall-3.png has changed since it was scored" in shown
    assert "not compared: 2 images (wall-2.png, wall-3.png): not registered" in shown


# Asking


def test_the_changes_are_a_query(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_heat(tmp_path, THEN, "a.tif", heat_of_mask(discs((200, 180, 40), (400, 300, 30), (520, 90, 30))), place=PLACE)
    write_heat(tmp_path, NOW, "a.tif", heat_of_mask(discs((200, 180, 60), (520, 90, 30), (90, 400, 12))), place=PLACE)
    ask = QueryConfig(scores=str(tmp_path), named="change", format="csv")
    query(ask)
    assert "no survey is compared with an earlier one: run `ssvq findings" in capsys.readouterr().err
    compare(tmp_path)
    capsys.readouterr()
    query(ask)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[2] for line in lines[1:]] == ['"grown"', '"gone"', '"new"', '"unchanged"']
    query(ask.model_copy(update={"named": None, "sql": "SELECT count(*) FROM findings WHERE survey = '2026'"}))
    assert capsys.readouterr().out.splitlines()[1] == "3", "what is gone is no finding"
    query(ask.model_copy(update={"named": None, "sql": "SELECT count(*) FROM gone"}))
    assert capsys.readouterr().out.splitlines()[1] == "1"
    query(ask.model_copy(update={"survey": [THEN]}))
    assert capsys.readouterr().out.splitlines()[1:] == []


def test_a_table_that_is_made_without_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_heat(tmp_path, THEN, "a.tif", heat_of_mask(discs((200, 180, 40), (400, 300, 30))), place=PLACE)
    write_heat(tmp_path, NOW, "a.tif", heat_of_mask(discs((200, 180, 40))), place=PLACE)
    compare(tmp_path)
    capsys.readouterr()
    run(tmp_path, "--survey", NOW)
    assert "the findings of '2026' are no longer compared with an earlier survey" in capsys.readouterr().err
    assert changes_of(tmp_path) == [None]
    assert not Path(Partition(str(tmp_path), NOW, MODEL, TILING).gone).exists()
    run(tmp_path, "--survey", NOW)
    assert "compared" not in capsys.readouterr().err


# What cannot be compared


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Two surveys of one ground, whose findings are made and compared."""
    heat = heat_of_mask(discs((200, 180, 40)))
    write_heat(tmp_path, THEN, "a.tif", heat, place=PLACE)
    write_heat(tmp_path, NOW, "a.tif", heat, place=PLACE)
    compare(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--previous", "2024"], "--previous 2024: {out} has no such survey, but 2025, 2026"),
        (["--previous", NOW], "--previous 2026 is the survey itself"),
        (
            ["--previous", THEN, "--threshold", "0.8"],
            "made with the model's own threshold, and these with --threshold 0.8",
        ),
        (["--previous", THEN, "--hysteresis", "0.9"], "and these with --hysteresis 0.9"),
        (["--previous", THEN, "--pair-pattern", "("], "--pair-pattern '(' is not a regular expression"),
        (["--previous", THEN, "--same-view"], "--same-view goes with --pair-pattern"),
        (["--pair-pattern", "x"], "--pair-pattern goes with --previous"),
        (["--previous", "other"], "it was scored by model fedcba9876543210, and '2026' by 0123456789abcdef"),
        (["--previous", "tiles"], "its tiles are 64-32-shift, and those of '2026' 64-64-shift"),
        (["--previous", "bare"], "survey 'bare' has no table of findings: make it by `ssvq findings"),
        (["--previous", "far"], "have no place in common: of 1 image (a.tif), no image of 'far' shows their ground"),
    ],
)
def test_wrong_input(pair: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    heat = heat_of_mask(discs((200, 180, 40)))
    write_heat(pair, "other", "a.tif", heat, place=PLACE, model="fedcba9876543210")
    write_heat(pair, "tiles", "a.tif", heat, place=PLACE, tiling="64-32-shift")
    write_heat(pair, "bare", "a.tif", heat, place=PLACE)
    write_heat(pair, "far", "a.tif", heat, place=moved_place(9000, 0, 1))
    run(pair, "--survey", "far")
    assert_refused(pair, capsys, ["--survey", NOW, *arguments], expected.format(out=pair))


def test_images_without_a_place(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_heat(pair, "photographs", "a.jpg", heat_of_mask(discs((200, 180, 40))))
    run(pair, "--survey", "photographs")
    ask = ["--survey", "photographs", "--previous", THEN]
    assert_refused(pair, capsys, ask, "have neither a georeference nor a position in EXIF: give a --pair-pattern")
    assert_refused(pair, capsys, [*ask, "--pair-pattern", "z"], "and none matches --pair-pattern 'z'")


def test_a_key_of_too_many_images(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(51):
        write_heat(pair, NOW, f"{number}.png", heat_of_mask(discs((200, 180, 40))))
    ask = ["--survey", NOW, "--previous", THEN, "--pair-pattern", "png"]
    assert_refused(pair, capsys, ask, "finds the key 'png' in 51 images of survey '2026'")


def test_photographs_that_do_not_overlap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = discs((200, 180, 40))
    for survey, seed in ((THEN, 1), (NOW, 2)):
        write_heat(tmp_path, survey, "1.png", heat_of_mask(mask), **photograph(tmp_path / survey / "1.png", wall(seed)))
        run(tmp_path, "--survey", survey)
    ask = ["--survey", NOW, "--previous", THEN, "--pair-pattern", "1"]
    assert_refused(
        tmp_path, capsys, ask, "no image of '2026' could be registered with one of '2025': 1 image (1.png): too few"
    )


def test_a_damaged_table(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = Path(Partition(str(pair), THEN, MODEL, TILING).findings)
    table.write_bytes(table.read_bytes()[:200])
    assert_refused(pair, capsys, ["--survey", NOW, "--previous", THEN], f"{table} is damaged")


def test_findings_of_images_that_changed_are_left_out(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heat = heat_of_mask(discs((200, 180, 40)))
    write_heat(pair, THEN, "a.tif", heat, place=PLACE, fingerprint="3-4", run_number=2)
    capsys.readouterr()
    run(pair, "--survey", NOW, "--previous", THEN)
    assert "1 finding of '2025' left out, whose images have changed since" in capsys.readouterr().err
    assert changes_of(pair) == ["new"]


def assert_refused(out: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    """One line, and nothing is written."""
    capsys.readouterr()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    run(out, *arguments, code=ExitCode.WRONG_INPUT)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("finding: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
