"""`ssvq demo`: every step on synthetic images, in minutes: make, train, score, query, evaluate, findings, compare,
draw.
"""

import time
from pathlib import Path

from ssvq.demo.settings import DemoConfig
from ssvq.demo.synthetic import write_survey
from ssvq.demo.year import LATER, SURVEY, compare_later, make_later
from ssvq.errors import ExitCode
from ssvq.evaluation.job import evaluate_model
from ssvq.evaluation.settings import EvaluateConfig
from ssvq.progress import Progress
from ssvq.results.findings.job import findings
from ssvq.results.findings.settings import FindingsConfig
from ssvq.results.pictures.overlay import overlay
from ssvq.results.pictures.settings import OverlayConfig
from ssvq.results.query import query
from ssvq.results.settings import QueryConfig
from ssvq.runtime.session import ray_session
from ssvq.scores.data_set import Scores
from ssvq.scoring.job import score
from ssvq.scoring.settings import ScoreConfig
from ssvq.training.job import train
from ssvq.training.settings import TrainConfig

BATCH = 32
WORST_IMAGES = """
SELECT regexp_extract(image_uri, '[^/]+$') AS image, count(*) AS tiles,
       count(*) FILTER (is_anomalous) AS anomalous, round(max(score), 1) AS worst_score
FROM tiles WHERE survey = 'demo' GROUP BY image_uri ORDER BY anomalous DESC, worst_score DESC LIMIT 8
"""
WORST_FINDINGS = """
SELECT severity, regexp_extract(image_uri, '[^/]+$') AS image, x, y, width, height,
       round(100 * image_share, 1) AS percent_of_image, round(times_threshold, 1) AS times_threshold
FROM findings WHERE survey = 'demo' LIMIT 8
"""


def demo(config: DemoConfig) -> ExitCode:
    """Run every step. A second run does only what is missing."""
    started = time.monotonic()
    out = config.out.resolve()
    training, survey, later, bundle, scores = (
        out / name for name in ("training", "survey", "later", "bundle", "scores")
    )
    picture = out / "overlay.png"

    _headline("1. Synthetic surveys of painted steel, with masks; the last shows some of the steel a year later")
    _make(training, config.seed, config.photographs, None)
    _make(survey, config.seed + 1, config.photographs // 2, config.orthomosaic)
    make_later(later, config.seed + 1, config.photographs // 2)

    with ray_session(debug=config.debug):
        _headline("2. Training on the first")
        train(
            TrainConfig(
                images=str(training / "images"),
                masks=str(training / "masks"),
                out=str(bundle),
                steps=config.steps,
                batch_size=BATCH,
                validate_every=max(1, config.steps // 2),
                validation_tiles=48,
                seed=config.seed,
            )
        )
        _headline("3. Scoring the others, photographs and an orthomosaic")
        for images, name in ((survey, SURVEY), (later, LATER)):
            score(ScoreConfig(survey=str(images / "images"), survey_name=name, model=str(bundle), out=str(scores)))

        _headline("4. A query over the score maps")
        query(QueryConfig(scores=str(scores), sql=WORST_IMAGES))

        _headline("5. How good is it? The second survey has masks too")
        report = evaluate_model(
            EvaluateConfig(model=str(bundle), images=str(survey / "images"), masks=str(survey / "masks"))
        )
    print(f"AUROC of the model {report['auroc']:.3f}, of a colour threshold {report['colour_threshold_auroc']:.3f}")
    print(f"({report['tiles']} tiles of 512 px, {report['anomalous_tiles']} of them at least half rust)")

    _headline("6. Findings: what an inspector is to look at")
    findings(FindingsConfig(scores=str(scores), survey=SURVEY))
    query(QueryConfig(scores=str(scores), sql=WORST_FINDINGS))

    _headline("7. A year later: the photographs are registered, and what has grown is measured")
    compare_later(later, scores)

    _headline("8. A picture")
    overlay(OverlayConfig(scores=str(scores), image=_most_telling(scores), out=picture))

    _headline(f"Done in {(time.monotonic() - started) / 60:.1f} minutes")
    for what, where in (
        ("model", bundle),
        ("score maps (Parquet)", scores / "tiles"),
        ("findings (Parquet)", scores / "findings"),
        ("ledger (Parquet)", scores / "images"),
        ("picture", picture),
    ):
        print(f"  {what:<22}{where}")
    print(f'  next: .venv/bin/ssvq query {scores} "SELECT * FROM images"')
    return ExitCode.DONE


def _headline(text: str) -> None:
    print(f"\n{text}", flush=True)


def _make(folder: Path, seed: int, photographs: int, orthomosaic: tuple[int, int] | None) -> None:
    """Make a survey, unless it is complete already."""
    whole = folder / "made.txt"
    recipe = f"seed {seed}, {photographs} photographs, orthomosaic {orthomosaic}\n"
    if whole.exists() and whole.read_text() == recipe:
        print(f"{folder} is there already")
        return
    number = photographs + (orthomosaic is not None)
    with Progress(f"making {folder.name}", number, "images") as progress:
        write_survey(folder, seed=seed, photographs=photographs, orthomosaic=orthomosaic, progress=progress.advance)
    whole.write_text(recipe)
    print(f"{folder}: {number} images")


def _most_telling(scores: Path) -> str:
    """The photograph whose anomalous share is nearest to a third: it shows both kinds of surface."""
    sql = """
        SELECT image_uri FROM tiles WHERE survey = 'demo' AND NOT ends_with(image_uri, '.tif') GROUP BY image_uri
        ORDER BY abs(avg(is_anomalous::INT) - 0.34), image_uri LIMIT 1
    """
    return str(Scores(str(scores)).sql(sql)["image_uri"][0])
