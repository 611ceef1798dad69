"""The intervals, on made-up confusion matrices whose truth is known."""

import math

import numpy as np
import pytest

from effiseg.report.blocks import Recordings
from effiseg.report.statistics import Bootstrap, Difference, influences, ious, regions

PIXELS = 400  # of each class in each image


def confusions(share: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Two classes; in image i each pixel is right with probability share[i]: (images, 2, 2)."""
    hits = draw.binomial(PIXELS, np.clip(share, 0, 1)[:, None], (len(share), 2))
    wrong = PIXELS - hits
    return np.stack([np.stack([hits[:, 0], wrong[:, 0]], 1), np.stack([wrong[:, 1], hits[:, 1]], 1)], 1)


def iou_at(share: float) -> float:
    """Both classes' IoU when a share of each is right: h / (2 n - h)."""
    return share / (2 - share)


def test_regions_and_ious_are_those_counted_by_hand():
    confusion = np.array([[[3, 1, 0], [2, 4, 0], [0, 0, 0]], [[1, 0, 1], [0, 2, 0], [0, 0, 0]]])
    counts = regions(confusion)
    assert counts[0].tolist() == [[3, 4, 0], [4, 6, 0], [5, 5, 0]]
    miou, first, second, third = ious(counts.sum(axis=0))
    assert (first, second) == (4 / (6 + 6 - 4), 6 / (8 + 7 - 6))
    assert math.isnan(third)  # predicted once, but labelled nowhere
    assert miou == pytest.approx((first + second) / 2)


def test_all_of_a_matrix_is_nan_where_nothing_is_labelled():
    assert np.isnan(ious(np.zeros((3, 4)))).all()


def interval(
    row: dict[int, np.ndarray], baseline: dict[int, np.ndarray], bootstrap: Bootstrap | None = None
) -> Difference:
    images = len(next(iter(row.values())))
    bootstrap = bootstrap or Bootstrap(np.arange(images))
    scored = ({seed: bootstrap.replicate(regions(c)) for seed, c in runs.items()} for runs in (row, baseline))
    return bootstrap.differences(*scored, classes=2)[0]


@pytest.mark.parametrize(
    ("seeds", "of_seeds", "of_images", "gain"),
    [(3, 0.0, 0.1, 0.03), (3, 0.03, 0.0, 0.03), (3, 0.02, 0.1, 0.0), (5, 0.03, 0.1, 0.03), (2, 0.02, 0.05, 0.03)],
    ids=["images vary", "seeds vary", "both vary, no gain", "five seeds", "two seeds"],
)
def test_the_interval_holds_the_true_difference_95_times_in_100(seeds, of_seeds, of_images, gain):
    """Each image has a difficulty that both rows share and a gain of its own; each training is better or worse."""
    draw, images, trials, held = np.random.default_rng(1), 40, 250, 0
    bootstrap, base = Bootstrap(np.arange(images)), 0.6
    for _ in range(trials):
        difficulty, own = draw.normal(0, 0.1, images), draw.normal(gain, of_images, images)
        row, baseline = (
            {s: confusions(base + difficulty + shift + draw.normal(0, of_seeds), draw) for s in range(seeds)}
            for shift in (own, 0.0)
        )
        found = interval(row, baseline, bootstrap)
        truth = iou_at(base + gain) - iou_at(base)
        held += found.low <= truth <= found.high
    # the standard error of a share of 0.95 over 250 trials is 0.014
    assert 0.92 <= held / trials <= 0.99


def test_more_images_and_more_seeds_narrow_the_interval():
    draw = np.random.default_rng(0)

    def width(images: int, seeds: int, of_seeds: float) -> float:
        """The mean width of ten intervals."""
        bootstrap, widths = Bootstrap(np.arange(images)), []
        for _ in range(10):
            row, baseline = (
                {s: confusions(draw.normal(x, 0.1, images) + draw.normal(0, of_seeds), draw) for s in range(seeds)}
                for x in (0.6, 0.65)
            )
            found = interval(row, baseline, bootstrap)
            widths.append(found.high - found.low)
        return float(np.mean(widths))

    assert width(160, 1, 0.0) == pytest.approx(width(40, 1, 0.0) / 2, rel=0.2)
    assert width(40, 8, 0.05) < 0.5 * width(40, 2, 0.05)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_row_compared_with_itself_is_never_better_or_worse(seeds):
    draw = np.random.default_rng(0)
    runs = {s: confusions(draw.normal(0.6, 0.1, 30), draw) for s in range(seeds)}
    found = interval(runs, runs)
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert found.verdict == ("one seed" if seeds == 1 else "not distinguishable")


@pytest.mark.parametrize(("level", "verdict"), [(0.8, "better"), (0.4, "worse"), (0.6, "not distinguishable")])
def test_the_verdict_follows_from_the_interval(level, verdict):
    draw = np.random.default_rng(0)
    row, baseline = ({s: confusions(draw.normal(x, 0.05, 30), draw) for s in range(3)} for x in (level, 0.6))
    found = interval(row, baseline)
    assert found.verdict == verdict
    assert found.low <= found.mean <= found.high
    (one,) = [interval({0: row[0]}, {0: baseline[0]})]
    assert (one.verdict, one.seeds) == ("one seed", 1)


def test_only_seeds_of_both_rows_are_compared():
    draw = np.random.default_rng(0)
    runs = {s: confusions(draw.normal(0.6, 0.05, 30), draw) for s in range(5)}
    part = interval({s: runs[s] for s in (0, 1, 4)}, {s: runs[4 - s] for s in (1, 2, 4)})
    assert part.seeds == 2
    assert part == interval({s: runs[s] for s in (1, 4)}, {s: runs[4 - s] for s in (1, 4)})
    nothing = interval({0: runs[0]}, {1: runs[1]})
    assert (nothing.seeds, nothing.verdict) == (0, "no comparison")
    assert math.isnan(nothing.mean)


def test_the_images_of_both_rows_are_the_same_ones():
    """What makes an image hard for both rows does not widen the interval."""
    draw = np.random.default_rng(0)
    difficulty = draw.normal(0.6, 0.2, 50)
    shared = [{s: confusions(difficulty + gain, draw) for s in range(3)} for gain in (0.05, 0.0)]
    apart = [{s: confusions(draw.permutation(difficulty) + gain, draw) for s in range(3)} for gain in (0.05, 0.0)]
    widths = [found.high - found.low for found in (interval(*shared), interval(*apart))]
    assert widths[0] < 0.5 * widths[1]


def test_a_class_that_one_image_alone_holds_is_compared_where_it_is_drawn():
    draw = np.random.default_rng(0)
    row, baseline = (np.pad(confusions(np.full(20, x), draw), ((0, 0), (0, 1), (0, 1))) for x in (0.8, 0.6))
    row[3, 2], baseline[3, 2] = (0, 10, 90), (0, 50, 50)
    bootstrap = Bootstrap(np.arange(20))
    scored = ({0: bootstrap.replicate(regions(c))} for c in (row, baseline))
    *_, third = bootstrap.differences(*scored, classes=3)
    assert third.mean == pytest.approx(0.4)
    assert third.low <= third.mean <= third.high


def test_images_drawn_one_by_one_give_the_numbers_that_they_always_gave():
    """Computed before anything was drawn in blocks; that of other computers may round otherwise."""
    draw = np.random.default_rng(0)
    row, baseline = ({s: confusions(np.full(24, x), draw) for s in range(3)} for x in (0.64, 0.6))
    found = interval(row, baseline)
    expected = (0.04029491419404757, 0.02346364735637734, 0.057060975359949424)
    assert (found.mean, found.low, found.high) == pytest.approx(expected, rel=1e-13)


def test_the_influence_of_an_image_is_the_score_with_it_less_the_score_without_it():
    confusion = np.array([[[3, 1], [0, 4]], [[2, 2], [1, 3]]])
    with_both, alone = [(5 / 9 + 7 / 11) / 2, 5 / 9, 7 / 11], [(2 / 5 + 3 / 6) / 2, 2 / 5, 3 / 6]
    (first, _) = influences(regions(confusion))
    assert first == pytest.approx(np.subtract(with_both, alone))


# --- frames of a drive ------------------------------------------------------------------------------------------------


def scenes(draw: np.random.Generator, spread: float, count: int = 5, length: int = 20) -> np.ndarray:
    """A value that changes from scene to scene and not within one."""
    return np.repeat(draw.normal(0, spread, count), length)


def wander(draw: np.random.Generator, spread: float, frames: int = 101, memory: float = 0.8) -> np.ndarray:
    """A value that the next frame mostly keeps, AR(1)."""
    values = [draw.normal()]
    for step in draw.normal(0, math.sqrt(1 - memory**2), frames - 1):
        values.append(memory * values[-1] + step)
    return spread * np.array(values)


@pytest.mark.parametrize(
    ("path", "recordings"),
    [(scenes, 5), (scenes, 1), (lambda *a: scenes(*a, count=24, length=6), 24), (wander, 1)],
    ids=["five scenes apart", "five scenes in a row", "many scenes apart", "one drive"],
)
def test_frames_that_look_alike_give_no_false_verdicts(path, recordings):
    """The true gain is 0: nominal is one verdict in twenty; single frames give one in three or more."""
    draw, studies, rows, verdicts = np.random.default_rng(3), 25, 3, {"blocks": 0, "frames": 0}
    for _ in range(studies):
        difficulty = 0.6 + path(draw, 0.1)
        images = len(difficulty)

        def train(gain: np.ndarray | float, difficulty: np.ndarray = difficulty) -> dict[int, np.ndarray]:
            return {s: regions(confusions(difficulty + gain, draw)) for s in range(3)}

        baseline = train(0.0)
        study = [train(path(draw, 0.05) + draw.normal(0, 0.01, images)) for _ in range(rows)]
        added = [np.mean([influences(row[s]) - influences(baseline[s]) for s in row], axis=0) for row in study]
        frames = [part.tolist() for part in np.array_split(np.arange(images), recordings)]
        blocks = Recordings(frames).blocks(np.hstack(added))
        for way, bootstrap in (("blocks", Bootstrap(blocks)), ("frames", Bootstrap(np.arange(images)))):
            *scored, reference = (
                {s: bootstrap.replicate(counts) for s, counts in runs.items()} for runs in (*study, baseline)
            )
            found = [bootstrap.differences(row, reference, classes=2)[0].verdict for row in scored]
            verdicts[way] += rows - found.count("not distinguishable")
    shares = {way: count / (studies * rows) for way, count in verdicts.items()}
    assert shares["blocks"] < 0.15
    assert shares["frames"] > 3 * shares["blocks"]
