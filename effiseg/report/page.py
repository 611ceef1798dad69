"""comparison.md: the tables with what a reader must know to judge them."""

from collections.abc import Iterable, Mapping

from effiseg.report.lengths import length_lines, lengths
from effiseg.report.recordings import RECORDINGS, recording_table
from effiseg.report.results import Results
from effiseg.report.summary import View
from effiseg.report.tables import (
    NONE,
    class_table,
    cost_table,
    dimensions,
    main_table,
    markdown,
    paper_table,
    speed_tables,
    training_table,
)
from effiseg.report.words import (
    LENGTHS,
    comparability,
    cost_notes,
    dataset_title,
    differences,
    final_scores,
    header,
    provenance,
    reading,
)


def page(views: Mapping[str, View]) -> str:
    """The whole of comparison.md.

    Args:
        views: by split, see `summary.views`.
    """
    results, summaries = next(iter(views.values()))
    sections = [
        f"# EffiSeg: comparison on {dataset_title(results)}",
        _header(results),
        _quoted(comparability(results)),
        "## Scores",
        "In percent of the validation split after the **last epoch**, mean over the seeds (± sample standard "
        "deviation). The best epoch is chosen on the same validation split and is therefore optimistic; it only stands "
        "beside. Δ mIoU is the gain over the baseline, paired by seed, in points, with its 95 % interval.",
        main_table(results, summaries).markdown(),
        *_recordings(results),
        *(part for final in results.finals for part in _final(views[final])),
        *_lengths(views),
        *_paper(results),
        "## What the rows change",
        _bullets(f"**{row}**: {settings}" for row, settings in differences(results).items()),
        "## IoU per class",
        _absent(results),
        class_table(results).markdown(),
        "## Cost",
        cost_notes(results),
        cost_table(results).markdown(),
        *_speeds(results),
        "## What training took",
        "Means over the seeds, of one training. A device minute is a minute of wall-clock time of one process.",
        training_table(summaries).markdown(),
        "## How to read it",
        _bullets(reading(results)),
        "## Provenance",
        _bullets(f"{key}: {value}" for key, value in provenance(results).items()),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(results: Results) -> str:
    lines = [[key, value] for key, value in header(results).items()]
    return markdown(["", ""], lines).replace("---:", "---")


def _quoted(text: str) -> str:
    return f"> {text}" if text else ""


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _final(view: View) -> list[str]:
    return [
        f"## Scores on {view.results.split}",
        final_scores(view.results),
        main_table(*view).markdown(),
        *_recordings(view.results),
        class_table(view.results).markdown(),
    ]


def _recordings(results: Results) -> list[str]:
    table = recording_table(results)
    return [RECORDINGS, table.markdown()] if table else []


def _lengths(views: Mapping[str, View]) -> list[str]:
    shown = {split: length_lines(*view) for split, view in views.items() if lengths(view.results)}
    if not shown:
        return []
    tables = [text for split, table in shown.items() for text in (f"On {split}:", table.markdown())]
    return ["## Over the length of training", LENGTHS, *tables]


def _paper(results: Results) -> list[str]:
    if comparability(results):
        return []
    return [
        "## Beside the paper",
        "The paper scores on the **quarter grid** (labels shrunk to 1/4), so our quarter-grid mIoU stands beside "
        "its own. It trains for 200 epochs with one seed, counts multiply-adds without attention as FLOPs, and "
        f"measures FPS on an RTX 3090 at 512x1024; ours are from {_machines(results)} at "
        f"{dimensions(results.config.profile.size)}.",
        paper_table(results).markdown(),
    ]


def _machines(results: Results) -> str:
    return ", ".join(dict.fromkeys(profile.device for profile in results.profiles.values())) or "no machine yet"


def _absent(results: Results) -> str:
    found = "every class"
    if results.absent:
        found = f"no pixel of {', '.join(results.absent)}: '{NONE}', and left out of every mean"
    return f"In percent, last epoch, mean over the seeds. The validation labels hold {found}.{_official(results)}"


def _official(results: Results) -> str:
    """The means that Cityscapes' evaluator would print, where they are others."""
    others = [
        f"{run.place.name} {100 * run.metrics.miou_official:.2f}"
        for run in (*results.runs, *results.teachers)
        if run.metrics.miou_official != run.metrics.miou
    ]
    if not others:
        return ""
    return (
        " Cityscapes' own evaluator counts a class that a network finds though the labels do not hold it as 0, and "
        f"would print: {', '.join(others)}."
    )


def _speeds(results: Results) -> list[str]:
    return [text for size, table in speed_tables(results).items() for text in (f"At {size}:", table.markdown())]
