"""`ssvq report`: reads what a survey's score maps say, makes the pictures of the worst images, writes the page."""

from ssvq import logs
from ssvq.errors import ExitCode, InputError
from ssvq.progress import Progress
from ssvq.results.report.data import read_data
from ssvq.results.report.page import render
from ssvq.results.report.pictures import make_pictures
from ssvq.results.report.settings import ReportConfig
from ssvq.scores.choose import count
from ssvq.scores.objects import put_output, read_pixel_rule

NAMED_MISSING = 20  # on standard error; the page names all


def report(config: ReportConfig) -> ExitCode:
    """Write the page, and say what is not in it: then the exit code is SOME_IMAGES_FAILED, since pictures of images
    or whole score maps are missing that were asked for. Images that failed to be scored are a part of the page.

    Raises InputError for a survey or model that is not there, and when the page cannot be written.
    """
    data = read_data(config.scores, config.survey, config.model_id)
    if config.out in {image["image_uri"] for image in data.images}:
        raise InputError(f"--out {config.out} is an image of the survey: give another file")
    rule = read_pixel_rule(config.scores, data.partition.model_id)
    worst = data.images[: config.pictures]
    pictures = []
    with Progress("drawing", len(worst), "images") as progress:
        for picture in make_pictures(config.scores, worst, rule):
            pictures.append(picture)
            progress.advance(1)
    page = render(data, pictures)
    put_output(config.out, page, config.out)
    drawn = sum(picture.problem is None for picture in pictures)
    failed = f", {len(data.failures):,} failed" if data.failures else ""
    print(
        f"{config.out}: {count(len(data.images), 'image')} ({drawn:,} with pictures{failed}), {len(page) / 1e6:.1f} MB"
    )
    missing = [
        f"no picture of {image['image_uri']}: {picture.problem}"
        for image, picture in zip(worst, pictures, strict=True)
        if picture.problem is not None
    ]
    more = len(missing) - NAMED_MISSING
    for line in [*data.lost, *missing[:NAMED_MISSING]]:
        logs.warning(f"warning: {line}")
    if more > 0:
        logs.warning(f"warning: no picture of {count(more, 'image')} more: the page names them")
    for line in data.left_out:
        logs.warning(f"left out: {line}")
    return ExitCode.SOME_IMAGES_FAILED if data.lost or missing else ExitCode.DONE
