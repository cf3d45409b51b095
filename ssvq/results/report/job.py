"""`ssvq report`: reads the scores of a survey, draws its worst images and findings, and writes page or PDF."""

from ssvq import logs
from ssvq.errors import ExitCode, InputError
from ssvq.progress import Progress
from ssvq.results.report.data import read_data
from ssvq.results.report.document import Cover, check_installed, render_document
from ssvq.results.report.findings import ReportFindings, make_findings
from ssvq.results.report.page import render
from ssvq.results.report.pictures import make_pictures
from ssvq.results.report.settings import ReportConfig
from ssvq.scores.choose import count
from ssvq.scores.objects import put_output, read_pixel_rule

NAMED_MISSING = 20  # images named on standard error; the page names all


def report(config: ReportConfig) -> ExitCode:
    """Write the page or PDF. Returns SOME_IMAGES_FAILED if pictures or score maps are missing from it, and names them.
    Images that failed to be scored are a part of it.

    Raises InputError for a survey or model that is not there, and when the page cannot be written.
    """
    if config.format == "pdf":
        check_installed()
    data = read_data(config.scores, config.survey, config.model_id)
    if config.out in {image.image_uri for image in data.images}:
        raise InputError(f"--out {config.out} is an image of the survey: give another file")
    rule = read_pixel_rule(config.scores, data.partition.model_id)
    findings = make_findings(data.partition, data.state, data.images, rule, config.findings_listed)
    crops = [] if findings is None else findings.crops
    worst = data.images[: config.images_drawn]
    pictures = []
    with Progress("drawing", len(worst), "images") as progress:
        taken = sum(len(crop.picture) for crop in crops) * 3 // 4  # base64 makes 4 bytes of 3
        for picture in make_pictures(config.scores, worst, rule, taken):
            pictures.append(picture)
            progress.advance(1)
    if config.format == "pdf":
        page = render_document(data, pictures, findings, Cover(config.paper, config.title, config.author))
    else:
        page = render(data, pictures, findings)
    put_output(config.out, page, config.out)
    drawn = sum(picture.problem is None for picture in pictures)
    failed = f", {len(data.failures):,} failed" if data.failures else ""
    print(
        f"{config.out}: {count(len(data.images), 'image')} ({drawn:,} with pictures{failed}), "
        f"{_tell_findings(findings)}, {len(page) / 1e6:.1f} MB"
    )
    problems = {
        image.image_uri: picture.problem for image, picture in zip(worst, pictures, strict=True) if picture.problem
    }
    for row, crop in [] if findings is None else findings.listed:
        if crop.problem is not None:
            problems.setdefault(row.image_uri, crop.problem)
    missing = [f"no picture of {uri}: {problem}" for uri, problem in problems.items()]
    more = len(missing) - NAMED_MISSING
    for line in [*data.lost, *missing[:NAMED_MISSING]]:
        logs.warning(f"warning: {line}")
    if more > 0:
        logs.warning(f"warning: no picture of {count(more, 'image')} more: the page names them")
    for line in data.left_out:
        logs.warning(f"left out: {line}")
    return ExitCode.SOME_IMAGES_FAILED if data.lost or missing else ExitCode.DONE


def _tell_findings(findings: ReportFindings | None) -> str:
    if findings is None:
        return "no table of findings (make it by `ssvq findings`)"
    if not findings.is_current:
        logs.warning("warning: images were scored after the table of findings was made: run `ssvq findings` again")
    more = len(findings.rows) - len(findings.crops)
    return count(len(findings.rows), "finding") + (f" (the worst {len(findings.crops):,} listed)" if more > 0 else "")
