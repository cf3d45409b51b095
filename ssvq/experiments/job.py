"""`ssvq experiment`: runs a grid, then writes its tables and pictures."""

import shlex
import sys
from collections.abc import Iterable

from ssvq.errors import ExitCode
from ssvq.experiments.cells import read_results, run_cells
from ssvq.experiments.datasets import DataSet, find_data_sets
from ssvq.experiments.figures import level_figure, row_figure, save
from ssvq.experiments.grid import Cell, levels, make_grid, rows
from ssvq.experiments.latents import latents_figure
from ssvq.experiments.settings import ExperimentConfig
from ssvq.experiments.tables import Results, difference_table, failure_lines, level_table, paper_table
from ssvq.io import storage
from ssvq.runtime.session import ray_session


def experiment(config: ExperimentConfig) -> ExitCode:
    """Run what is unfinished, print the tables, and write them with the pictures to the output.

    Failed cells are named, and the exit code says so. Raises InputError for unknown data, rows or settings.
    """
    data_sets = find_data_sets(config)
    cells = make_grid(config, data_sets)
    storage.check_writable(config.out, "--out")
    if config.report_only:
        results = read_results(config.out, cells)
    else:
        with ray_session(debug=config.debug):
            results = run_cells(cells, config.out, config.parallel)
    finished = {row["cell"] for row in results if row["status"] == "ok"}
    text = "\n".join(_report(config, data_sets, cells, results))
    print(text)
    storage.put_text(storage.join(config.out, f"{config.name}.md"), text + "\n")
    for data in data_sets:
        shown = [cell for cell in cells if cell.data == data and cell.name in finished]
        if shown:
            written = _draw(config, data, shown, results)
            print(f"pictures: {', '.join(written)}")
    print(f"tables: {storage.join(config.out, f'{config.name}.md')}")
    return ExitCode.SOME_IMAGES_FAILED if any(row["status"] != "ok" for row in results) else ExitCode.DONE


def _report(config: ExperimentConfig, data_sets: list[DataSet], cells: list[Cell], results: Results) -> Iterable[str]:
    yield f"`ssvq {shlex.join(sys.argv[1:]) if sys.argv[1:2] == ['experiment'] else f'experiment {config.name}'}`\n"
    finished = sum(row["status"] == "ok" for row in results)
    if finished < len(cells):
        yield f"{finished} of {len(cells)} cells are finished.\n"
    yield from failure_lines(results)
    if config.name == "table1":
        for level in levels(config):
            yield from paper_table(results, rows(config), level, [data.name for data in data_sets])
        return
    for data in data_sets:
        yield f"### {data.name}\n"
        yield from level_table(results, rows(config), levels(config), data.name)
        if config.name == "supervision":
            yield from difference_table(cells, results, levels(config), data.name)


def _draw(config: ExperimentConfig, data: DataSet, cells: list[Cell], results: Results) -> list[str]:
    """Draw the pictures of one data set from its finished cells."""
    name = f"{config.name}-{data.name}"
    if config.name == "latents":
        return save(latents_figure(cells), config.out, name)
    if config.name == "supervision":
        return save(level_figure(results, rows(config), levels(config), data.name), config.out, name)
    written = []
    for gamma in levels(config):
        written += save(row_figure(results, rows(config), gamma, data.name), config.out, f"{name}-{gamma:g}")
    return written
