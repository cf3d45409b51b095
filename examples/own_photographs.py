"""From your own photographs to findings, on this machine.

    python examples/own_photographs.py                                   # drawn photographs, two minutes on two cores
    python examples/own_photographs.py --images photos --masks masks --survey new-photos --out results --steps 200

The first run draws photographs of painted steel with rust. A second run finds everything done, and prints findings.
"""

import argparse
from pathlib import Path

import ssvq


def main() -> None:
    """Train, score, list findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="photographs to learn from (default: drawn)")
    parser.add_argument("--masks", type=Path, help="their masks, same names: black is normal")
    parser.add_argument("--survey", type=Path, help="photographs to score (default: drawn)")
    parser.add_argument("--out", type=Path, default=Path("example-output"), help="folder for all outputs")
    parser.add_argument("--steps", type=int, default=20, help="steps of the training; 200 or more for real use")
    options = parser.parse_args()
    out: Path = options.out

    images, masks, survey = options.images, options.masks, options.survey
    if images is None:
        images, masks = draw(out / "training", seed=1, photographs=10)
    if survey is None:
        survey, _ = draw(out / "survey", seed=2, photographs=4)

    bundle, scores = str(out / "bundle"), str(out / "scores")
    ssvq.train(
        ssvq.TrainConfig(
            images=str(images),
            masks=str(masks) if masks else None,
            out=bundle,
            steps=options.steps,
            batch_size=32,
            validate_every=options.steps,
        )
    )
    ssvq.score(ssvq.ScoreConfig(survey=str(survey), survey_name="survey", model=bundle, out=scores))
    ssvq.findings(ssvq.FindingsConfig(scores=scores))

    with ssvq.Scores(scores) as results:
        print(results.sql("SELECT severity, image_uri, x, y, width, height FROM findings LIMIT 5").to_pandas())


def draw(folder: Path, *, seed: int, photographs: int) -> tuple[Path, Path]:
    """Folders of drawn photographs and their masks; draws them if they are missing."""
    from ssvq.demo.synthetic import write_survey

    if not folder.exists():
        write_survey(folder, seed=seed, photographs=photographs, orthomosaic=None)
    return folder / "images", folder / "masks"


if __name__ == "__main__":
    main()
