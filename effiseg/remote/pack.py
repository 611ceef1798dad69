"""`effiseg pack`: one archive with all that the study's trainings need on another machine."""

from contextlib import ExitStack
from pathlib import Path

from effiseg.base.config import PARAMS_FILE, Config
from effiseg.base.errors import EffiSegError
from effiseg.cli.git import git_commit
from effiseg.cluster.graph import Graph, read_graph
from effiseg.keep import LOCK, SCORES, scored_on
from effiseg.remote.archive import write_archive
from effiseg.remote.host import PACKAGES, PACKED, this_host
from effiseg.remote.packages import package_files
from effiseg.remote.plan import identity_at, planned
from effiseg.runs.checkpoints import checkpoint_folder, exclusive, kept_checkpoint
from effiseg.runs.places import FINALS, FLOORS, PREPARED, ROWS, STARTS, STARTS_FILE, Place
from effiseg.runs.study import open_prepared

BEFORE = ("prepare", "rows", "fetch")  # the stages whose outputs a training reads
CODE = Path(__file__).parents[1]


def pack(config: Config, archive: Path) -> list[str]:
    """Write the archive: one folder of the archive's name with code, settings, data, first weights and packages.

    What DVC takes as trained is not trained there; of these the runs that others read go along, with their scores as
    far as there are any. So do the checkpoints of trainings that have begun here, and what runs are scored on there.

    Returns:
        The runs that are left to train.

    Raises:
        EffiSegError: `prepare`, `prepare_final`, `rows` or `fetch` has not run, all is trained, several processes
            are to train a row, one trains now, or the archive cannot be written.
    """
    if archive.suffix != ".tar":
        raise EffiSegError(f"{archive}: expected a name that ends in .tar")
    if config.study.launcher != "python":
        raise EffiSegError(
            f"study.launcher: found '{config.study.launcher}', but on another machine one process trains a row; set "
            "it to python"
        )
    graph, plan = read_graph(), planned(config)
    finals = [FINALS / split for split in config.data.final_on]
    before = (*BEFORE, *(maker(graph, folder) for folder in finals))
    stale = [name for name in before if name in graph.doubtful()]
    if stale:
        raise EffiSegError(f"not up to date: {', '.join(stale)}; run `dvc repro {' '.join(before)}` first")
    trained = trained_here(graph, plan)
    left = [name for name in plan if name not in trained]
    if not left:
        raise EffiSegError("all runs of the study are trained; there is nothing to pack")
    data, read = open_prepared(config), {name for run in left for name in plan[run]}
    files = {f"effiseg/{path.relative_to(CODE)}": path for path in _files(CODE)}
    files |= {f"{PACKAGES}/{name}": path for name, path in package_files().items()}
    for folder in (PREPARED, ROWS, STARTS, *finals):
        files |= {str(path): path for path in _files(folder)}
    files |= {str(path): path for path in (PARAMS_FILE, LOCK, STARTS_FILE, FLOORS)}
    for place in (Place.of(name) for name in trained if name in read):
        current = [each for each in scored_on(place, config.data.final_on) if is_current(graph, each.metrics)]
        scores = [path for each in current for path in (each.metrics, *(each.scores / name for name in SCORES))]
        files |= {str(path): path for path in (*_files(place.model), place.record, place.history, *scores)}
    with ExitStack() as locks:
        for name in (name for name in left if trained.issuperset(plan[name])):
            folder = checkpoint_folder(name, identity_at(config, Place.of(name), data.digest))
            if folder.is_dir():
                locks.enter_context(exclusive(folder))
                files |= kept_checkpoint(folder)[1]
        packed = {"host": this_host(), "commit": git_commit(), "trained": sorted(trained)}
        in_folder = {f"{archive.stem}/{name}": path for name, path in files.items()}
        write_archive(archive, in_folder, f"{archive.stem}/{PACKED}", packed)
    return left


def trained_here(graph: Graph, plan: dict[str, tuple[str, ...]]) -> set[str]:
    """The runs whose trainings, and those of all that they read, DVC takes as done."""
    found: set[str] = set()
    for name, read in plan.items():
        if found.issuperset(read) and is_current(graph, Place.of(name).record):
            found.add(name)
    return found


def is_current(graph: Graph, path: Path) -> bool:
    """Whether the stage that makes a file is not stale by itself."""
    return maker(graph, path) not in graph.stale


def maker(graph: Graph, path: Path) -> str:
    """The name of the stage that makes a file."""
    return next(stage.name for stage in graph.stages.values() if path.as_posix() in stage.outs)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
