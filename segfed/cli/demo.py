"""``segfed demo``: the whole loop on made-up hospitals."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import TaskID

from segfed.cli import console
from segfed.sites import Site

if TYPE_CHECKING:  # loading torch takes seconds, which --help should not
    from segfed.cli.study_progress import StudyProgress
    from segfed.phantom.annotator import AnnotatedCase
    from segfed.study import StudyEvent


def demo(
    task: Annotated[
        str, typer.Option("--task", help="kidney_tumor or brain_tumor.")
    ] = "kidney_tumor",
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the demo, made anew each time.")
    ] = Path("runs/demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything.")] = 0,
) -> None:
    """Run the whole loop on made-up hospitals: train, propose, correct, train again, report."""
    from segfed.cli.label_server import label_server
    from segfed.cli.launch import launch_federation
    from segfed.report import HTML_FILE, summary_table, write_report
    from segfed.study.demo import run_demo

    started = time.perf_counter()
    watcher = _Watcher()
    try:
        run = run_demo(
            out,
            task=task,
            seed=seed,
            launch_federation=launch_federation,
            start_server=label_server,
            watcher=watcher,
        )
    finally:
        watcher.progress.stop()
    report = write_report(run)
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    console.err.print(f"Done in {minutes} min {seconds:02d} s.", highlight=False)
    console.out.print(summary_table(report))
    console.out.print(f"Report: {run / HTML_FILE}", soft_wrap=True)


class _Watcher:
    """Shows the demo's stages, each with its own progress bars."""

    def __init__(self) -> None:
        self.progress = console.progress_bars()
        self._bars: dict[str, TaskID] = {}
        self._study: StudyProgress | None = None
        self._n_stages = 0

    def on_stage(self, title: str) -> None:
        """Close the bars of the last stage and name the next one."""
        self.progress.stop()
        self._n_stages += 1
        console.err.print(f"\n[bold]{self._n_stages}. {title}[/bold]", highlight=False)
        self.progress = console.progress_bars()
        self._bars = {}
        self._study = None
        self.progress.start()

    def on_case(self, done: int, total: int) -> None:
        """Count synthetic cases."""
        self.progress.update(self._bar("cases", total=total), completed=done)

    def on_label(self, site: Site, case: AnnotatedCase) -> None:
        """Count submitted labels by site."""
        bar = self._bar(f"labels of {site.name}", total=len(site.split("train")))
        self.progress.update(bar, advance=1, note=f"{case.case_id} {case.origin}")

    def on_event(self, event: StudyEvent) -> None:
        """Show a study's trainings and scores."""
        from segfed.cli.study_progress import StudyProgress

        if self._study is None:
            self._study = StudyProgress(self.progress)
        self._study(event)

    def _bar(self, title: str, *, total: int) -> TaskID:
        """The bar of a title, made when it is first needed."""
        if title not in self._bars:
            self._bars[title] = self.progress.add_task(title, total=total, note="")
        return self._bars[title]
