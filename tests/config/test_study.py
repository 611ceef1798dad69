"""The rows of params.yaml and the study that is made of them."""

import pytest

from effiseg.base.errors import EffiSegError
from effiseg.base.objective import DISTILLATION_TERMS
from effiseg.preparation.floors import FLOORS


def test_the_shipped_file_loads_and_every_row_is_complete(shipped):
    assert {shipped.row(name).name for name in shipped.experiments} == set(shipped.experiments)
    assert shipped.runs()
    assert shipped.teachers() == [("teacher", 0)]


def test_the_shipped_rows_say_what_the_paper_says(shipped):
    weights = {name: shipped.row(name).loss.weights.active() for name, _ in shipped.runs()}
    cross_entropy, dice_focal, distilled = {"weighted_ce": 1.0}, {"dice": 0.5, "focal": 0.5}, {"cskd": 1.0, "pekd": 1.0}
    assert weights == {
        "baseline": cross_entropy,
        "tanh": cross_entropy,
        "tanh_linear": cross_entropy,
        "kd": cross_entropy | distilled,
        "dice_focal": dice_focal,
        "combined": dice_focal | distilled,
    }
    assert shipped.loss.focal.gamma == 2
    assert (shipped.loss.cskd.lambda_m, shipped.loss.cskd.lambda_s) == (1.0, 0.5)
    assert shipped.loss.cskd.stage_weights == [1, 1, 1, 1]
    assert shipped.loss.pekd.stage_weights == [0.1, 0.1, 0.5, 1.0]


@pytest.mark.parametrize("name", ["a.b", "1st", "-x", "", "a b", "ä", "a/b", "a\n", "kd\nkd", "a@b"])
def test_a_row_name_that_dvc_could_not_address_is_refused(refused, shipped_content, edited, name):
    refused(
        edited({"experiments": {**shipped_content["experiments"], name: {}}}), "experiments.", "row's name is letters"
    )


@pytest.mark.parametrize("name", FLOORS)
def test_a_row_cannot_take_a_floors_name(refused, edited, name):
    refused(edited({f"experiments.{name}": {}}), f"experiments.{name}", "another")


def test_an_unlisted_row_is_checked_too(refused, edited):
    refused(edited({"experiments.spare": {"model": {"variant": "b9"}}}), "experiments.spare.model.variant", "'b0'")


@pytest.mark.parametrize("key", ["experiments", "teachers", "distillation", "assisted"])
def test_an_unknown_row_in_the_study_is_refused_beside_the_known_ones(refused, shipped_content, edited, key):
    names = [*shipped_content["study"][key], "nobody"]
    refused(edited({f"study.{key}": names}), f"study.{key}", "'nobody'", ", ".join(shipped_content["experiments"]))


def test_a_distillation_row_among_the_experiments_is_refused(refused, edited):
    changes = {"study.experiments": ["baseline", "kd"], "study.distillation": ["combined"]}
    refused(edited(changes), "study.experiments", "'kd'", "cskd, pekd", "study.distillation")


def test_a_plain_row_among_the_distillations_is_refused(refused, edited):
    changes = {"study.experiments": ["baseline"], "study.distillation": ["kd", "tanh"]}
    refused(edited(changes), "study.distillation", "'tanh'", ", ".join(DISTILLATION_TERMS), "study.experiments")


def test_a_plain_row_among_the_assisted_is_refused(refused, edited):
    changes = {"study.assistant": "kd", "study.assisted": ["tanh"]}
    refused(edited(changes), "study.assisted", "'tanh'", ", ".join(DISTILLATION_TERMS), "study.experiments")


@pytest.mark.parametrize("row", ["tanh", "kd"])
def test_a_row_in_both_lists_is_refused(refused, shipped_content, edited, row):
    changes = {f"study.{key}": [*shipped_content["study"][key], row] for key in ("experiments", "distillation")}
    refused(edited(changes), "study.", f"'{row}'")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("experiments", ["tanh", "baseline", "tanh"]),
        ("teachers", ["teacher", "teacher"]),
        ("distillation", ["kd", "kd"]),
        ("assisted", ["cskd", "pekd", "cskd"]),
        ("seeds", [0, 1, 0]),
    ],
)
def test_what_is_listed_twice_is_refused(refused, edited, key, value):
    refused(edited({f"study.{key}": value}), f"study.{key}", "listed twice", str(value[0]))


def test_an_empty_study_is_refused_and_one_empty_list_is_not(refused, load, edited):
    refused(edited({"study.experiments": [], "study.distillation": []}), "study.experiments", "study.distillation")
    assert load(edited({"study.experiments": []})).runs() == [("kd", 0), ("combined", 0)]
    load(edited({"study.distillation": []}))


@pytest.mark.parametrize("launcher", ["torchrun --nproc-per-node 2", "accelerate launch --num_processes 2"])
def test_launchers_of_several_words_load(load, edited, launcher):
    assert load(edited({"study.launcher": launcher})).study.launcher == launcher


@pytest.mark.parametrize("term", DISTILLATION_TERMS)
def test_each_distillation_term_makes_a_row_need_the_teacher(load, edited, term):
    config = load(edited({"experiments.new": {"loss": {"weights": {term: 0.1}}}, "study.distillation": ["new"]}))
    assert config.row("new").loss.needs_teacher
    assert not config.row("baseline").loss.needs_teacher


def test_runs_stand_in_the_order_of_the_rows_with_all_seeds_each(load, edited):
    config = load(edited({"study.experiments": ["dice_focal", "baseline"], "study.seeds": [3, 1]}))
    order = ["baseline", "kd", "dice_focal", "combined"]
    assert config.runs() == [(name, seed) for name in order for seed in (3, 1)]


# --- who teaches whom -------------------------------------------------------------------------------------------------


def test_distilled_rows_learn_from_the_first_teacher_and_the_others_from_labels(load, edited):
    changes = {"study.teachers": ["large", "teacher"], "experiments.large": {"model": {"variant": "b2"}}}
    config = load(edited(changes | {"study.seeds": [3, 1]}))
    assert config.teachers() == [("large", 0), ("teacher", 0)]
    assert [config.teacher_of(name) for name in ("kd", "combined")] == [("large", 0)] * 2
    assert [config.teacher_of(name) for name in ("baseline", "large", "teacher")] == [None] * 3
    assert not {"large", "teacher"} & {name for name, _ in config.runs()}


CHAIN = {"study.distillation": ["kd"], "study.assistant": "kd", "study.assisted": ["combined"], "study.seeds": [3, 1]}


def test_assisted_rows_learn_from_the_assistants_first_seed_and_it_from_the_teacher(load, edited):
    config = load(edited(CHAIN))
    assert config.teacher_of("combined") == ("kd", 3)
    assert config.teacher_of("kd") == ("teacher", 0)
    assert config.teacher_of("baseline") is None
    assert [key for key in config.runs() if key[0] in ("kd", "combined")] == [
        ("kd", 3),
        ("kd", 1),
        ("combined", 3),
        ("combined", 1),
    ]


@pytest.mark.parametrize("assistant", ["", "pekd", "baseline", "teacher", "nobody", "combined"])
def test_an_assistant_that_is_no_distilled_row_is_refused(refused, edited, assistant):
    refused(edited(CHAIN | {"study.assistant": assistant}), f"study.assistant: '{assistant}' is not in study.distil")


def test_without_a_teacher_nothing_can_be_distilled(refused, load, edited):
    refused(edited({"study.teachers": []}), "study.teachers is empty", "study.distillation: []")
    config = load(edited({"study.teachers": [], "study.distillation": []}))
    assert config.teachers() == []
    assert {config.teacher_of(name) for name in config.experiments} == {None}


def test_a_teacher_that_would_need_a_teacher_is_refused(refused, edited):
    refused(edited({"study.teachers": ["kd_kl"]}), "study.teachers", "'kd_kl'", "kl, cskd, pekd", "set it to 0")


def test_a_teacher_among_the_experiments_is_refused(refused, edited):
    refused(edited({"study.experiments": ["baseline", "teacher"]}), "study.experiments", "'teacher'", "study.teachers")


def test_asking_for_an_unknown_row_names_the_rows(shipped):
    with pytest.raises(EffiSegError, match="no row 'nobody'; rows are: teacher, baseline, tanh"):
        shipped.row("nobody")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study.experiments": ["baseline", "teacher"]}, "experiments: row 'teacher' stands under study.teachers"),
        ({"study.assistant": "kd", "study.assisted": ["kd"]}, "distillation: row 'kd' stands under study.assisted"),
        ({"study.distillation": ["teacher", "kd"]}, "distillation: row 'teacher' has 0 epochs"),
    ],
)
def test_a_row_stands_in_one_list_that_fits_it(refused, edited, changes, said):
    refused(edited(changes), f"study.{said}")


CONTINUED = {"study.origin": "baseline-0", "study.continued": ["mine"]}


@pytest.mark.parametrize(
    ("start", "changes", "fragments"),
    [
        ({"source": "drawn"}, CONTINUED, ["study.continued", "starts from no run", "run: baseline-0", "experiments"]),
        (
            {"source": "run", "run": "tanh-0"},
            CONTINUED,
            ["study.continued", "'tanh-0', which DVC would not run before it; set study.origin: tanh-0"],
        ),
        (
            {"source": "run", "run": "nobody-0"},
            {"study.origin": "nobody-0", "study.continued": ["mine"]},
            ["experiments.mine.start.run: the study has no run 'nobody-0'; runs are: teacher-0, baseline-0, "],
        ),
        (
            {"source": "run", "run": "tanh-0"},
            {"study.experiments": ["baseline", "tanh", "mine"]},
            ["study.experiments", "list it under study.continued, and set study.origin: tanh-0"],
        ),
        (
            {"source": "run", "run": "mine-0"},
            {"study.origin": "mine-0", "study.continued": ["mine"]},
            ["study.origin: 'mine-0' is none of the runs that", "teacher-0, baseline-0, "],
        ),
        (
            {"source": "run", "run": "teacher-0"},
            {"study.origin": "teacher-0", "study.continued": ["mine"]},
            ["experiments.mine.model.variant: b0, but its start, the row 'teacher', has b2; start.part: selected"],
        ),
        ({"source": "run", "run": "tanh"}, CONTINUED, ["start.run is <row>-<seed>, such as baseline-0, found 'tanh'"]),
        ({"source": "run", "run": ""}, CONTINUED, ["needs start.run, which is empty"]),
    ],
)
def test_a_row_starts_from_a_run_that_dvc_runs_before_it(refused, edited, start, changes, fragments):
    refused(edited({"experiments.mine": {"start": start}, **changes}), *fragments)


def test_a_distilled_row_may_start_from_its_teacher_and_from_no_other_run(load, refused, edited):
    start, terms = {"source": "run", "run": "teacher-0", "part": "selected"}, {"weights": {"cskd": 1.0}}
    listed = {"study.distillation": ["kd", "mine"]}
    config = load(edited({"experiments.mine": {"start": start, "loss": terms}, **listed}))
    assert config.row("mine").start.run == "teacher-0"
    row = {"start": start | {"run": "kd-0"}, "loss": terms}
    refused(
        edited({"experiments.mine": row, **listed}),
        "study.distillation",
        "start it from what it learns from, teacher-0",
    )


def test_a_row_that_is_not_trained_is_the_network_that_it_starts_from(refused, edited):
    row = {"start": {"source": "run", "run": "baseline-0"}, "train": {"epochs": 0}, "model": {"mean": [0.0, 0.0, 0.0]}}
    told = "experiments.mine.model.mean: [0.0, 0.0, 0.0], but its start, the row 'baseline', has [0.485, "
    refused(edited({"experiments.mine": row, **CONTINUED}), told, "train the row")


def test_a_teacher_starts_from_no_run(refused, edited):
    start = {"source": "run", "run": "baseline-0"}
    refused(edited({"experiments.teacher.start": start}), "study.teachers", "a teacher is drawn or fetched")


def test_a_distilled_row_is_not_continued(refused, edited):
    row = {"start": {"source": "run", "run": "baseline-0"}, "loss": {"weights": {"cskd": 1.0}}}
    refused(edited({"experiments.mine": row, **CONTINUED}), "study.continued", "has a distillation weight (cskd)")
