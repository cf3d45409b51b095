"""The whole way on a real local Ray cluster: train, score, query, evaluate; again and again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from ssvq.config import EvaluateConfig, OverlayConfig, ReadLimits, ScoreConfig
from ssvq.errors import ExitCode, InputError
from ssvq.evaluation.job import evaluate_model
from ssvq.model import bundle as bundles
from ssvq.results.pictures.overlay import overlay
from ssvq.scores.data_set import Scores
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.schema import SCORE_MAP
from ssvq.scoring.job import score
from ssvq.training.job import train
from tests.support.bundles import read_whole
from tests.support.images import write_image
from tests.support.rows import row_of
from tests.support.surveys import BUNDLE_FILES, TILE, make_bundle, make_survey, paint, tiny_training

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="module")
def trained(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "bundle"
    assert train(tiny_training(survey, out, steps=60, batch_size=16, validate_every=30)) == ExitCode.DONE
    return out


def test_training_learns_and_leaves_a_bundle_and_nothing_else(survey: Path, trained: Path) -> None:
    assert files_of(trained) == BUNDLE_FILES
    bundle = read_whole(str(trained))
    assert bundle.metrics["validation_auroc"] > 0.95
    counts = bundle.training["counts"]
    assert counts["images"] == 8
    assert counts["tiles"] == 8 * 8
    assert counts["train_normal"] + counts["validation_normal"] + counts["calibration_normal"] == 48
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))
    named = {"normal", "anomalous", "codes_used", "perplexity", "learning_rate", "samples_per_second"}
    assert named <= set(lines[-1])
    assert [line["step"] for line in lines if "validation_auroc" in line] == [30, 60]

    held_out = pq.read_table(trained / "held-out.parquet")
    assert set(held_out["split"].to_pylist()) == {"validation", "calibration"}
    of_calibration = held_out.filter(pc.equal(held_out["split"], "calibration"))
    normal = of_calibration.filter(pc.invert(of_calibration["anomalous"]))["score"].to_pylist()
    assert sorted(normal) == pytest.approx(bundle.calibration.normal_scores)
    splits = {row["image"]: row["split"] for row in pyarrow.csv.read_csv(trained / "manifest.csv").to_pylist()}
    assert len(splits) == 8
    for row in held_out.to_pylist():
        assert splits[str(survey / "images" / row["path"])] == row["split"], "calibrated on what chose nothing"

    other = make_survey(trained.parent / "other", images=4, seed=9)
    report = evaluate_model(
        EvaluateConfig(model=str(trained), images=str(other / "images"), masks=str(other / "masks"))
    )
    assert report["auroc"] > 0.95
    assert report["tiles"] == 32
    assert report["normal_tiles"] + report["anomalous_tiles"] == 32
    cells = ("true_normal", "false_anomalous", "missed_anomalous", "true_anomalous")
    assert sum(report[name] for name in cells) == 32


def test_a_finished_bundle_is_left_alone_and_another_configuration_refused(
    survey: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: (trained / name).stat().st_mtime_ns for name in files_of(trained)}
    same = tiny_training(survey, trained, steps=60, batch_size=16, validate_every=30)
    assert train(same) == ExitCode.DONE
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"other settings \(steps\)"):
        train(tiny_training(survey, trained, steps=61, batch_size=16, validate_every=30))
    assert {name: (trained / name).stat().st_mtime_ns for name in files_of(trained)} == before


@pytest.mark.parametrize("workers", [pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.soak)])
def test_workers_share_one_codebook_and_learn_what_one_worker_learns(
    survey: Path, tmp_path: Path, workers: int
) -> None:
    # Every checkpoint compares the weights and codebooks of all ranks bit for bit, and fails if they differ.
    one, several = tmp_path / "one", tmp_path / "several"
    train(tiny_training(survey, one))
    train(tiny_training(survey, several, num_workers=workers))
    alone, together = (bundles.read_weights(str(p), bundles.read_description(str(p))) for p in (one, several))
    for name in alone:
        torch.testing.assert_close(alone[name], together[name], rtol=2e-3, atol=2e-4)


def test_a_training_that_diverges_says_what_to_change_and_keeps_the_last_good_checkpoint(
    survey: Path, tmp_path: Path
) -> None:
    unbounded = {"objective": {"name": "paper"}, "optimiser": {"learning_rate": 0.01, "clip_norm": 1e9}}
    config = tiny_training(survey, tmp_path / "out", steps=400, validate_every=2, **unbounded)
    with pytest.raises(InputError, match=r"diverged: the loss is .* at step .*; lower --optimiser\.learning-rate"):
        train(config)
    assert not bundles.is_finished(config.out)
    checkpoints = sorted((tmp_path / "out" / "checkpoints" / "train").glob("checkpoint_*/"))
    assert len(checkpoints) == config.checkpoints
    for checkpoint in checkpoints:
        weights = safetensors.torch.load_file(checkpoint / "current.safetensors")
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_whole_images_in_the_mvtec_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for i in range(10):
        good, _ = paint(rng, 40, 56, rough=False)
        bad, mask = paint(rng, 40, 56, rough=True)
        write_image(tmp_path / "c" / ("train" if i % 2 else "test") / "good" / f"{i}.png", good)
        write_image(tmp_path / "c" / "test" / "rough" / f"{i}.png", bad)
        write_image(tmp_path / "c" / "ground_truth" / "rough" / f"{i}_mask.png", mask)
    layout = {"images": None, "masks": None, "mvtec": str(tmp_path / "c"), "whole_images": True}
    out = tmp_path / "bundle"
    config = tiny_training(tmp_path, out, steps=30, validate_every=15, test_fraction=0.2, supervision=0.4, **layout)
    assert train(config) == ExitCode.DONE
    bundle = bundles.read_description(str(out))
    assert bundle.preprocessing.tiling.tiling_id == "32-whole"
    assert bundle.training["counts"]["tiles"] == 20
    assert (bundle.training["counts"]["test_normal"], bundle.training["counts"]["test_anomalous"]) == (2, 2)

    report = evaluate_model(EvaluateConfig(model=str(out), manifest=str(out / "manifest.csv"), split="test"))
    assert (report["tiles"], report["anomalous_tiles"]) == (4, 2)
    assert report["auroc"] == pytest.approx(bundle.metrics["test_auroc"])
    scores = str(tmp_path / "scores")
    assert score(ScoreConfig(survey=str(tmp_path / "c" / "test"), model=str(out), out=scores)) == ExitCode.DONE
    tiles = Scores(scores).sql("SELECT x, y, width, height, len(score_map) AS side FROM tiles").to_pylist()
    assert tiles == [{"x": 0, "y": 0, "width": 56, "height": 40, "side": 8}] * 15
    picture = tmp_path / "picture.png"
    assert overlay(OverlayConfig(scores=scores, image="rough/3.png", out=picture)) == ExitCode.DONE
    assert picture.stat().st_size > 1000


def test_normal_images_alone_are_enough(survey: Path, tmp_path: Path) -> None:
    """No masks, no anomalies: the threshold allows the fewest false positives that so few tiles can tell."""
    clean = tmp_path / "clean"
    clean.mkdir()
    for path in (survey / "images").glob("0[0246].png"):
        shutil.copy(path, clean)
    out = str(tmp_path / "bundle")
    assert train(tiny_training(tmp_path, out, images=str(clean), masks=None, steps=4)) == ExitCode.DONE
    bundle = bundles.read_description(out)
    assert bundle.calibration.rule == "11.1 % false positives", "1 / 9: there are 8 normal calibration tiles"
    assert bundle.metrics["best_step"] == 4, "without anomalies the last weights are taken"


def test_bad_images_and_masks_are_reported_counted_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survey = make_survey(tmp_path / "survey", images=8)
    (survey / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    shutil.copy(survey / "masks" / "00.png", survey / "masks" / "broken.png")
    (survey / "masks" / "01.png").unlink()
    write_image(survey / "masks" / "02.png", np.zeros((10, 10), np.uint8))
    config = tiny_training(survey, tmp_path / "bundle", steps=2, validate_every=2)
    assert train(config) == ExitCode.SOME_IMAGES_FAILED
    errors = capsys.readouterr().err
    for name, reason in (("broken.png", "cannot be read"), ("01.png", "no mask"), ("02.png", "10x10")):
        assert [line for line in errors.splitlines() if name in line and reason in line], errors
    assert bundles.read_description(config.out).training["counts"]["failed_images"] == 3


def test_too_little_to_train_on_is_one_line(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey", images=1)
    with pytest.raises(InputError, match="at least 3 images"):
        train(tiny_training(survey, tmp_path / "bundle"))


def test_scoring_covers_every_pixel_and_again_scores_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    survey = tmp_path / "survey one"
    sizes = {"whole.png": (64, 96), "odd.jpg": (65, 97), "small.png": (20, 50), "deep/er.tif": (33, 32)}
    for name, (height, width) in sizes.items():
        write_image(survey / name, paint(rng, height, width, rough=True)[0])
    bundle = make_bundle(tmp_path / "bundle")
    out = tmp_path / "scores"
    config = ScoreConfig(survey=str(survey), model=str(tmp_path / "bundle"), out=str(out))
    assert score(config) == ExitCode.DONE

    folder = out / "tiles" / "survey one" / bundle.model_id / f"{TILE}-{TILE}-shift"
    assert len(list(folder.iterdir())) == len(sizes)
    for path in folder.iterdir():
        assert pq.read_schema(path).equals(SCORE_MAP)
    for name, (height, width) in sizes.items():
        tiles = Scores(str(out)).sql(f"SELECT x, y, width, height FROM tiles WHERE ends_with(image_uri, '/{name}')")
        covered = np.zeros((height, width), bool)
        for tile in tiles.to_pylist():
            covered[tile["y"] : tile["y"] + tile["height"], tile["x"] : tile["x"] + tile["width"]] = True
        assert covered.all(), name
    images = Scores(str(out)).sql("SELECT * FROM images").to_pylist()
    assert {row["status"] for row in images} == {"scored"}
    assert {row["survey_root"] for row in images} == {str(survey)}
    assert (out / "models" / f"{bundle.model_id}.json").is_file()
    (run,) = (out / "runs").iterdir()
    assert json.loads(run.read_text())["summary"]["scored"] == len(sizes)

    before = {name: (out / name).read_bytes() for name in files_of(out)}
    capsys.readouterr()
    assert score(config) == ExitCode.DONE
    assert "nothing to do: all 4 images" in capsys.readouterr().out
    assert {name: (out / name).read_bytes() for name in files_of(out)} == before


def test_new_changed_lost_and_failed_images_are_scored_and_no_others(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey", images=4) / "images"
    (survey / "bad.png").write_text("no image")
    bundle = make_bundle(tmp_path / "bundle")
    out = tmp_path / "scores"
    config = ScoreConfig(survey=str(survey), survey_name="s", model=str(tmp_path / "bundle"), out=str(out))
    assert score(config) == ExitCode.SOME_IMAGES_FAILED
    assert score(config.model_copy(update={"allow_failed_images": True})) == ExitCode.DONE
    sql = "SELECT regexp_extract(image_uri, '[^/]+$') AS name, status, tiles, run_id, error_message FROM images"
    first = {row["name"]: row for row in Scores(str(out)).sql(sql).to_pylist()}
    assert first["bad.png"]["status"] == "failed"
    assert "known kind" in first["bad.png"]["error_message"]

    rng = np.random.default_rng(5)
    write_image(survey / "00.png", paint(rng, TILE, TILE, rough=False)[0])  # changed, and smaller
    write_image(survey / "01.png", np.zeros((8, 8, 3), np.uint16))  # changed, and fails now
    write_image(survey / "bad.png", paint(rng, TILE, TILE, rough=False)[0])  # mended
    write_image(survey / "new.png", paint(rng, TILE, 2 * TILE, rough=False)[0])
    image_id = Scores(str(out)).sql("SELECT image_id FROM images WHERE ends_with(image_uri, '02.png')")["image_id"][0]
    lost = out / "tiles" / "s" / bundle.model_id / f"{TILE}-{TILE}-shift" / f"{image_id}.parquet"
    lost.unlink()
    assert score(config) == ExitCode.SOME_IMAGES_FAILED
    second = {row["name"]: row for row in Scores(str(out)).sql(sql).to_pylist()}
    again = {name for name in second if name not in first or second[name]["run_id"] != first[name]["run_id"]}
    assert again == {"00.png", "01.png", "02.png", "bad.png", "new.png"}
    assert {name: second[name]["tiles"] for name in sorted(second)} == {
        "00.png": 1,
        "01.png": 0,
        "02.png": 8,
        "03.png": 8,
        "bad.png": 1,
        "new.png": 2,
    }
    counted = Scores(str(out)).sql("SELECT count(*) AS n, count(DISTINCT tile_id) AS d FROM tiles").to_pylist()
    assert counted == [{"n": 20, "d": 20}], "no stale row, none twice"
    assert second["01.png"]["status"] == "failed"
    assert "uint16" in second["01.png"]["error_message"]


def test_a_survey_name_keeps_its_root(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    settings = {"model": str(tmp_path / "bundle"), "out": str(tmp_path / "scores"), "survey_name": "bridge"}
    write_image(tmp_path / "b" / "image.png", np.zeros((TILE, TILE, 3), np.uint8))
    with LedgerWriter(settings["out"], "run") as ledger:
        ledger.add(row_of({"survey": "bridge", "survey_root": str(tmp_path / "a"), "image_id": "x"}))
    with pytest.raises(InputError, match="another --survey-name"):
        score(ScoreConfig(survey=str(tmp_path / "b"), **settings))


def test_an_image_of_many_parts_has_one_object_with_the_rows_of_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pixels = paint(rng, 5 * TILE, 32 * TILE, rough=True)[0]  # 160 tiles
    in_parts = ReadLimits(part_pixels=64 * TILE**2)
    for survey, profile in (("tiled", {"tiled": True, "blockxsize": 64, "blockysize": 64}), ("scanline", {})):
        suffix = ".tif" if profile else ".png"
        write_image(tmp_path / survey / f"large{suffix}", pixels, **profile)
    make_bundle(tmp_path / "bundle")
    out = tmp_path / "scores"
    for survey in ("tiled", "scanline"):
        score(ScoreConfig(survey=str(tmp_path / survey), model=str(tmp_path / "bundle"), out=str(out), read=in_parts))
    tables = [pq.read_table(path) for path in sorted((out / "tiles").rglob("*.parquet"))]
    assert [len(table) for table in tables] == [160, 160]
    by_place = [sorted(zip(*(t[c].to_pylist() for c in ("y", "x", "score")), strict=True)) for t in tables]
    assert by_place[0] == by_place[1]


@pytest.mark.real_data
@pytest.mark.slow
def test_corrosion_photographs_from_training_to_query(real_data: Path, tmp_path: Path) -> None:
    survey = tmp_path / "survey"
    chosen = ["0", "10", "30", "50", "100", "150", "200", "233"]  # the mask of 233 has another size
    for name in chosen:
        (survey / "images").mkdir(parents=True, exist_ok=True)
        (survey / "masks").mkdir(exist_ok=True)
        shutil.copy(real_data / "corrosion" / "images" / f"{name}.jpeg", survey / "images")
        shutil.copy(real_data / "corrosion" / "masks" / f"{name}.png", survey / "masks")
    config = tiny_training(survey, tmp_path / "bundle", tile_size=512, crop=64, steps=10, validation_fraction=0.3)
    assert train(config) == ExitCode.SOME_IMAGES_FAILED
    counts = bundles.read_description(config.out).training["counts"]
    assert (counts["images"], counts["failed_images"]) == (7, 1)
    out = str(tmp_path / "scores")
    assert score(ScoreConfig(survey=str(survey / "images"), model=config.out, out=out)) == ExitCode.DONE
    answer = Scores(out).sql("SELECT count(DISTINCT image_uri) AS images, count(*) AS tiles FROM tiles").to_pylist()
    assert answer[0]["images"] == 8
    assert answer[0]["tiles"] == sum(Scores(out).sql("SELECT tiles FROM images")["tiles"].to_pylist())
