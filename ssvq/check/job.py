"""`ssvq check`: looks at images and labels, reports problems, and writes the page."""

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rasterio.errors import NotGeoreferencedWarning

from ssvq import logs
from ssvq.check.findings import ClassRow, Concern, KindRow, count_classes, count_kinds, find_warnings
from ssvq.check.look import Look, look_at
from ssvq.check.page import render
from ssvq.check.settings import CheckConfig
from ssvq.errors import ExitCode
from ssvq.imagery.catalog import SourceImage, list_images
from ssvq.imagery.layouts import Found, find_images
from ssvq.io import storage
from ssvq.progress import Progress
from ssvq.scores.choose import count
from ssvq.scores.objects import put_output

GRAVEST = 3  # on the terminal; the page has all
REFUSED_SHOWN = 5


def check(config: CheckConfig) -> ExitCode:
    """Look at all images, print the counts and the gravest problems, and write the page.

    Returns SOME_IMAGES_FAILED if an image would be refused or a problem is likely. Raises InputError as a training or
    scoring would with these settings, and if the page cannot be written.
    """
    storage.check_writable(config.out.rpartition("/")[0] or "/", "--out")
    with logs.gathered() as said:
        images, unusable = _find(config)
    looks = _look(config, images) + [Look(source, error=error) for source, error in unusable]
    looks.sort(key=lambda look: look.source.path)
    found = find_warnings(looks, config.pixel_rule, labelled=config.survey is None)
    of_listing = [Concern(text.removeprefix("warning: ")) for text in said if text.startswith("warning:")]
    concerns = [*found, *of_listing]
    classes, kinds = count_classes(looks), count_kinds(looks)
    page = render(config.source, looks, concerns, classes, kinds)
    _print(config, looks, found, classes, kinds)
    put_output(config.out, page, config.out)
    print(f"{config.out}: {count(sum(bool(look.picture) for look in looks), 'picture')}, {len(page) / 1e6:.1f} MB")
    refused = any(look.error is not None for look in looks)
    return ExitCode.SOME_IMAGES_FAILED if refused or concerns else ExitCode.DONE


def _find(config: CheckConfig) -> Found:
    if config.survey is None:
        return find_images(config)
    return list_images(config.survey, "--survey", config.drivers), []


def _look(config: CheckConfig, images: Sequence[SourceImage]) -> list[Look]:
    shown = _choose_shown(images, config.pictures)

    def look(position: int) -> Look:
        return look_at(images[position], config.pixel_rule, with_picture=position in shown)

    looks = []
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # in all threads
    with Progress("looking", len(images), "images") as progress, ThreadPoolExecutor(os.cpu_count()) as threads:
        for one in threads.map(look, range(len(images))):
            looks.append(one)
            progress.advance(1)
    return looks


def _choose_shown(images: Sequence[SourceImage], number: int) -> set[int]:
    """Positions of the images that get a picture: as many of each label as there are, spread evenly."""
    by_label: dict[str | None, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        by_label[image.label].append(position)
    chosen: set[int] = set()
    for left, members in zip(range(len(by_label), 0, -1), sorted(by_label.values(), key=len), strict=True):
        share = min(len(members), (number - len(chosen)) // left)
        chosen.update(members[i * len(members) // share] for i in range(share))
    return chosen


def _print(
    config: CheckConfig,
    looks: Sequence[Look],
    found: Sequence[Concern],
    classes: Sequence[ClassRow],
    kinds: Sequence[KindRow],
) -> None:
    """Print the counts and the gravest problems. The listing's own warnings are on the terminal already."""
    refused = [look for look in looks if look.error is not None]
    counts = ", ".join(f"{row.name} {row.images:,}" for row in classes)
    print(f"{config.source}: {count(len(looks), 'image')}, {len(refused):,} refused; {counts}")
    most = ", ".join(f"{row.width}x{row.height} {row.driver} {row.images:,}" for row in kinds[:4])
    print(f"sizes: {most}{f' and {len(kinds) - 4} more' if len(kinds) > 4 else ''}")
    for look in refused[:REFUSED_SHOWN]:
        logs.warning(f"refused: {look.source.path}: {look.error}")
    if len(refused) > REFUSED_SHOWN:
        logs.warning(f"... and {len(refused) - REFUSED_SHOWN:,} more: the page names them")
    for concern in found[:GRAVEST]:
        example = f", such as {concern.names[0]}" if concern.names else ""
        logs.warning(f"warning: {concern.text}{example}")
    if len(found) > GRAVEST:
        logs.warning(f"... and {len(found) - GRAVEST} more warnings: the page has them")
