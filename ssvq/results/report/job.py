"""`ssvq report`: reads the score maps of a survey, makes pictures, and writes a page or a PDF."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ssvq import logs
from ssvq.errors import ExitCode, InputError
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.progress import Progress
from ssvq.results.findings.stored import read_gone
from ssvq.results.report.crops import IN_PRINT
from ssvq.results.report.data import ReportData, read_data
from ssvq.results.report.findings import ReportFindings, make_findings
from ssvq.results.report.page import render
from ssvq.results.report.pdf.document import DocumentParts, render_document
from ssvq.results.report.pdf.engine import load_engine, to_pdf
from ssvq.results.report.pdf.prints import make_cover, make_prints
from ssvq.results.report.pictures import make_pictures
from ssvq.results.report.settings import ReportConfig
from ssvq.scores.choose import count
from ssvq.scores.objects import put_output, read_pixel_rule

NAMED_MISSING = 20  # on standard error; the report names all


@dataclass(frozen=True)
class _Made:
    """A report, its findings, and for each image with a picture the problem if there is none."""

    content: bytes
    findings: ReportFindings | None
    problems: Sequence[str | None]


def report(config: ReportConfig) -> ExitCode:
    """Write the report. The exit code is SOME_IMAGES_FAILED if pictures or score maps are missing from it. Images that
    failed to be scored are part of the report.

    Raises InputError for an unknown survey or model, if the report cannot be written, and for a PDF if WeasyPrint or
    Pango is missing.
    """
    if config.kind == "pdf":
        load_engine()  # before the work
    data = read_data(config.scores, config.survey, config.model_id)
    if config.out in {image.image_uri for image in data.images}:
        raise InputError(f"--out {config.out} is an image of the survey: give another file")
    rule = read_pixel_rule(config.scores, data.partition.model_id)
    made = _make_page(config, data, rule) if config.kind == "html" else _make_pdf(config, data, rule)
    put_output(config.out, made.content, config.out)
    drawn = sum(problem is None for problem in made.problems)
    failed = f", {len(data.failures):,} failed" if data.failures else ""
    print(
        f"{config.out}: {count(len(data.images), 'image')} ({drawn:,} with pictures{failed}), "
        f"{_tell_findings(made.findings)}, {len(made.content) / 1e6:.1f} MB"
    )
    return _tell_missing(data, made)


def _make_page(config: ReportConfig, data: ReportData, rule: PixelRule) -> _Made:
    findings = make_findings(data.partition, data.state, data.images, rule, config.findings)
    crops = [] if findings is None else findings.crops
    worst = data.images[: config.drawn]
    pictures = []
    with Progress("drawing", len(worst), "images") as progress:
        taken = sum(len(crop.picture) for crop in crops) * 3 // 4  # base64 makes 4 bytes of 3
        for picture in make_pictures(config.scores, worst, rule, taken):
            pictures.append(picture)
            progress.advance(1)
    return _Made(render(data, pictures, findings), findings, [picture.problem for picture in pictures])


def _make_pdf(config: ReportConfig, data: ReportData, rule: PixelRule) -> _Made:
    findings = make_findings(
        data.partition, data.state, data.images, rule, config.findings, IN_PRINT, without=["rejected"]
    )
    worst = data.images[: config.drawn]
    prints = []
    with Progress("drawing", len(worst), "images") as progress:
        for picture in make_prints(config.scores, worst, rule):
            prints.append(picture)
            progress.advance(1)
    cover = None
    if config.drawn:
        cover = make_cover(data.images, [] if findings is None else findings.rows, rule)
    parts = DocumentParts(data, findings, read_gone(data.partition), cover, prints)
    html = render_document(parts, config.title, config.author, config.paper, datetime.now(UTC))
    return _Made(to_pdf(load_engine(), html), findings, [picture.problem for picture in prints])


def _tell_missing(data: ReportData, made: _Made) -> ExitCode:
    problems = {
        image.image_uri: problem
        for image, problem in zip(data.images, made.problems, strict=False)
        if problem is not None
    }
    for row, crop in [] if made.findings is None else made.findings.listed:
        if crop.problem is not None:
            problems.setdefault(row.image_uri, crop.problem)
    missing = [f"no picture of {uri}: {problem}" for uri, problem in problems.items()]
    more = len(missing) - NAMED_MISSING
    for line in [*data.lost, *missing[:NAMED_MISSING]]:
        logs.warning(f"warning: {line}")
    if more > 0:
        logs.warning(f"warning: no picture of {count(more, 'image')} more: the report names them")
    for line in data.left_out:
        logs.warning(f"left out: {line}")
    return ExitCode.SOME_IMAGES_FAILED if data.lost or missing else ExitCode.DONE


def _tell_findings(findings: ReportFindings | None) -> str:
    if findings is None:
        return "no table of findings (make it by `ssvq findings`)"
    if not findings.is_current:
        logs.warning("warning: images were scored after the table of findings was made: run `ssvq findings` again")
    told = [f"the worst {len(findings.crops):,} listed"] if len(findings.rows) > len(findings.crops) else []
    told += [f"{findings.left_out:,} rejected left out"] if findings.left_out else []
    return count(len(findings.rows), "finding") + (f" ({', '.join(told)})" if told else "")
