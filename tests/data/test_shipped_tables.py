"""The tables that come with EffiSeg: that they open, cite, and say what the data sets' authors publish."""

import pytest
from cityscapesscripts.helpers.labels import labels as published

from effiseg.data.dataset import SHIPPED, DataSet, SplitFiles, open_dataset, shipped_names
from tests.data.known_tables import EVALUATED, KNOWN, VOID


@pytest.fixture(params=shipped_names())
def table(request: pytest.FixtureRequest) -> DataSet:
    return open_dataset(request.param)


def with_files(table: DataSet) -> dict[str, SplitFiles]:
    return {split: files for split, files in table.splits.items() if isinstance(files, SplitFiles)}


def name_in(files: SplitFiles, path: str, kind: str) -> str | None:
    match = getattr(files, kind).regex.fullmatch(path)
    return match and match["name"]


def test_every_table_is_known_here():
    assert sorted(path.stem for path in SHIPPED.glob("*.yaml")) == shipped_names() == sorted(KNOWN)


def test_a_table_has_its_files_name(table: DataSet, request: pytest.FixtureRequest):
    assert table.name == request.node.callspec.params["table"]


def test_a_table_says_where_its_data_are_from(table: DataSet):
    assert table.origin[0].islower()
    assert not table.origin.endswith(".")
    if not table.generated:
        assert table.homepage.startswith("http")
        assert table.licence
        assert table.citation


def test_a_table_can_be_learned_from(table: DataSet):
    assert {"train", "val"} <= set(table.splits)


def test_classes_are_as_many_as_published(table: DataSet):
    assert len(table.classes) == KNOWN[table.name].count


def test_void_is_what_no_class_has(table: DataSet):
    assert table.void.ids == KNOWN[table.name].void_ids
    assert bool(table.void.ids) == table.space.by_id
    assert not table.void.rest


def test_ids_are_without_gaps(table: DataSet):
    found = sorted(each for entry in (*table.classes, table.void) for each in entry.ids if each != VOID)
    assert found == list(range(len(found)))


def test_colours_of_classes_differ(table: DataSet):
    shared = {("road", "skyscraper")} if table.name == "ade20k" else set()  # it publishes one colour for both
    owners: dict[tuple[int, int, int], list[str]] = {}
    for entry in table.classes:
        owners.setdefault(entry.colour, []).append(entry.name)
    assert {tuple(names) for names in owners.values() if len(names) > 1} == shared


def test_every_pattern_compiles_and_matches_its_own_path(table: DataSet):
    for files in with_files(table).values():
        for pattern in (files.images, files.labels):
            assert pattern.folder
            path = pattern.path("some/name_1")
            if not {"{", "*"} & set(path):
                assert pattern.regex.fullmatch(path)["name"] == "some/name_1"


def test_an_images_file_and_its_labels_file_have_one_name(table: DataSet):
    known = KNOWN[table.name]
    files = with_files(table)[known.split]
    assert name_in(files, known.image, "images") == known.name
    assert name_in(files, known.label, "labels") == known.name


def test_splits_do_not_share_files(table: DataSet):
    known = KNOWN[table.name]
    if table.name == "voc2012":  # lists of names tell its splits apart
        assert len({files.names for files in with_files(table).values()}) == len(with_files(table))
        return
    others = [files for split, files in with_files(table).items() if split != known.split]
    assert not any(name_in(files, known.image, "images") or name_in(files, known.label, "labels") for files in others)


def test_a_name_tells_its_group_and_frame(table: DataSet):
    known = KNOWN[table.name]
    assert table.group_of(known.name) == known.group


@pytest.mark.parametrize(
    ("source", "name", "group"),
    [
        ("camvid-32", "Seq05VD_f00030", ("Seq05VD", 30)),
        ("camvid-11", "0006R0_f00930", ("0006R0", 930)),
        ("idd-26", "201/frame0029", ("201", 29)),
        ("idd-level1", "201/frame0029", ("201", 29)),
        ("acdc", "GP010376/GP010376_frame_000129", ("GP010376/GP010376", 129)),
    ],
)
def test_names_of_another_form_tell_group_and_frame_too(source: str, name: str, group: tuple[str, int]):
    assert open_dataset(source).group_of(name) == group


@pytest.mark.parametrize(
    ("source", "path", "kind", "name"),
    [
        ("idd-26", "leftImg8bit/train/201/frame0029_leftImg8bit.jpg", "images", "201/frame0029"),
        ("vistas", "training/v1.2/labels/0035fkbjWljhaftpVM37-g.png", "labels", "0035fkbjWljhaftpVM37-g"),
        ("vistas", "training/v2.0/labels/0035fkbjWljhaftpVM37-g.png", "labels", None),
        ("vistas", "training/instances/0035fkbjWljhaftpVM37-g.png", "labels", None),
        ("acdc", "rgb_anon/fog/train_ref/GOPR0475/GOPR0475_frame_000041_rgb_ref_anon.png", "images", None),
        ("acdc", "gt/fog/train/GOPR0475/GOPR0475_frame_000041_gt_labelColor.png", "labels", None),
        ("idd-level1", "gtFine/train/0/005506_gtFine_labellevel3Ids.png", "labels", None),
        ("camvid-32", "train_labels/0001TP_006690.png", "labels", None),
        ("kitti", "training/semantic_rgb/000052_10.png", "labels", None),
        ("bdd100k", "labels/sem_seg/colormaps/train/7d06fefd-f7be05a6.png", "labels", None),
    ],
)
def test_other_layouts_and_other_files(source: str, path: str, kind: str, name: str | None):
    assert name_in(with_files(open_dataset(source))["train"], path, kind) == name


@pytest.mark.parametrize("source", ["cityscapes", "kitti", "synthetic", "bdd100k", "acdc"])
def test_classes_of_cityscapes_are_the_published_ones_in_train_id_order(source: str):
    space = open_dataset(source).space
    assert space.classes == tuple(label.name for label in EVALUATED)
    assert space.colours == tuple(label.color for label in EVALUATED)


@pytest.mark.parametrize("source", ["cityscapes", "kitti", "synthetic"])
def test_ids_of_cityscapes_map_as_published(source: str):
    space = open_dataset(source).space
    for label in published:
        if label.id >= 0:  # -1, the license plate, does not occur in files
            assert space.of_id[label.id] == (space.ignore_index if label.trainId == VOID else label.trainId), label


@pytest.mark.parametrize("source", ["bdd100k", "acdc"])
def test_train_ids_map_to_themselves(source: str):
    space = open_dataset(source).space
    assert space.of_id[:19].tolist() == list(range(19))
    assert space.of_id[VOID] == space.ignore_index


def test_categories_of_cityscapes_are_the_published_ones():
    space = open_dataset("cityscapes-categories").space
    evaluated = {label.categoryId: label.category for label in EVALUATED}
    assert space.classes == tuple(evaluated[each] for each in sorted(evaluated))
    for label in published:
        if label.id >= 0:
            expected = space.ignore_index if label.ignoreInEval else space.classes.index(label.category)
            assert space.of_id[label.id] == expected, label
    colours = {(label.category, label.color) for label in EVALUATED}
    assert set(zip(space.classes, space.colours, strict=True)) <= colours


def test_camvids_groups_of_colours_hold_every_class_once():
    whole, grouped = open_dataset("camvid-32"), open_dataset("camvid-11")
    assert sorted(each for entry in grouped.classes for each in entry.colours) == sorted(whole.space.colours)
    assert grouped.void == whole.void
    assert whole.void.colours == ((0, 0, 0),)


def test_camvid_is_shown_alike_by_ids_and_by_colours():
    ids, colours = open_dataset("camvid").space, open_dataset("camvid-11").space
    assert (ids.classes, ids.colours) == (colours.classes, colours.colours)


def test_idds_level_1_is_one_for_all_its_forms():
    assert open_dataset("idd-level1").classes == open_dataset("idd-lite").classes


def test_vocs_colours_are_those_of_its_palette():
    """Bits 0, 1 and 2 of an index are the highest of red, green and blue; bits 3, 4 and 5 the next."""
    for index, colour in enumerate(open_dataset("voc2012").space.colours):
        assert colour == tuple((index >> shift & 1) << 7 | (index >> (shift + 3) & 1) << 6 for shift in range(3))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("ade20k", {1: "wall", 7: "road", 13: "person", 21: "car", 128: "bicycle", 150: "flag"}),
        ("vistas", {0: "Bird", 13: "Road", 19: "Person", 30: "Vegetation", 55: "Car", 64: "Ego Vehicle"}),
        ("idd-26", {0: "road", 4: "person", 8: "autorickshaw", 18: "traffic sign", 22: "building", 25: "sky"}),
        ("voc2012", {0: "background", 7: "car", 15: "person", 20: "tvmonitor"}),
    ],
)
def test_ids_that_others_give_too(source: str, names: dict[int, str]):
    space = open_dataset(source).space
    assert {each: space.classes[space.of_id[each]] for each in names} == names
