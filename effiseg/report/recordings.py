"""Scores by recording, where the scored images are of a few."""

from statistics import mean

from effiseg.report.results import Results
from effiseg.report.statistics import ious, regions
from effiseg.report.tables import Table, percent

_MOST = 8  # recordings that have columns; of more, single ones say little
RECORDINGS = (
    "The same images recording by recording, in percent, with the gain in brackets. Each is a mean over the classes "
    "that this recording shows, so that columns do not compare with each other; one street is no interval."
)


def recording_table(results: Results) -> Table | None:
    """Each row's mIoU and gain on each recording; None where images stand alone or recordings are one or many."""
    recordings = results.recordings.frames
    if not 1 < len(recordings) <= _MOST or results.recordings.population != "these recordings":
        return None
    names = [f"{results.data.val.groups[frames[0]][0]}, {len(frames)} images" for frames in recordings]
    scores = {
        (run.experiment, run.seed): [
            float(ious(regions(run.confusion(results.data)[frames]).sum(axis=0))[0]) for frames in recordings
        ]
        for run in results.runs
    }
    lines = []
    for row in results.experiments:
        runs, reference = results.of(row), results.reference(row)
        cells = []
        for column in range(len(recordings)):
            cell = percent(scores[row, run.seed][column] for run in runs)
            pairs = [(row, run.seed) for run in runs if row != reference and (reference, run.seed) in scores]
            gains = [scores[key][column] - scores[reference, key[1]][column] for key in pairs]
            cells.append(f"{cell} ({percent([mean(gains)], sign='+')})" if gains else cell)
        lines.append([row, *cells])
    return Table(["row", *names], lines)
