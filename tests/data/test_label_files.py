"""Reading and writing the labels of a data set, and telling what is wrong with a file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effiseg.data.images import BadFile
from effiseg.data.label_files import label_image, read_label
from effiseg.data.labels import LabelSpace
from tests.data.pictures import palette, raw_png
from tests.settings import CAMVID, CITYSCAPES

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
IDS = RNG.integers(0, 34, (6, 8), dtype=np.uint8)


@pytest.mark.parametrize("make", [Image.fromarray, palette], ids=["L", "P"])
def test_labels_are_ids_mapped_to_train_ids(tmp_path: Path, make):
    make(IDS).save(tmp_path / "x.png")
    label = read_label(tmp_path / "x.png", CITYSCAPES)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, CITYSCAPES.of_id[IDS])


def test_a_palette_label_of_four_bits_keeps_its_ids(tmp_path: Path):
    ids = IDS % 12
    palette(ids).save(tmp_path / "x.png", bits=4)
    assert (tmp_path / "x.png").read_bytes()[24] == 4
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", CAMVID), np.where(ids == 11, 255, ids))


BY_ID = LabelSpace.model_validate(
    {
        "name": "mine",
        "entries": [
            {"name": "ground", "colour": [10, 20, 30], "ids": [0, 4]},
            {"name": "tree", "colour": [0, 99, 0], "ids": 1},
            {"name": "far", "colour": [9, 9, 9], "ids": [1000]},
        ],
        "void": {"ids": [255]},
    }
)
BY_COLOUR = LabelSpace.model_validate(
    {
        "name": "painted",
        "entries": [
            {"name": "ground", "colour": [1, 2, 3], "colours": [[0, 0, 0], [5, 5, 5]]},
            {"name": "tree", "colour": [0, 99, 0], "colours": [0, 255, 0]},
            {"name": "wall", "colour": [7, 7, 7], "colours": [255, 255, 255]},
        ],
        "void": {"colours": [[255, 0, 255]]},
    }
)
BOTH = LabelSpace.model_validate(
    {
        "name": "both",
        "entries": [
            {"name": "ground", "colour": [1, 2, 3], "ids": [0], "colours": [255, 0, 0]},
            {"name": "tree", "colour": [0, 99, 0], "ids": [1], "colours": [0, 0, 255]},
        ],
    }
)
MEANT = np.array([[0, 1, 0], [1, 0, 1]], np.uint8)


def rgb(ids: np.ndarray, *colours: tuple[int, ...]) -> np.ndarray:
    return np.array(colours, np.uint8)[ids]


@pytest.mark.parametrize(
    ("space", "image"),
    [
        (BY_ID, Image.fromarray(MEANT)),
        (BY_ID, Image.fromarray(MEANT.astype(bool))),
        (BY_ID, Image.fromarray(MEANT.astype(np.uint16))),
        (BY_ID, Image.fromarray(MEANT.astype(np.int32))),
        (BY_ID, Image.fromarray(np.dstack([MEANT, MEANT * 0]))),
        (BY_ID, Image.fromarray(np.dstack([MEANT] * 3))),
        (BY_ID, palette(MEANT)),
        (BY_COLOUR, Image.fromarray(rgb(MEANT, (5, 5, 5), (0, 255, 0)))),
        (BY_COLOUR, Image.fromarray(rgb(MEANT, (5, 5, 5, 9), (0, 255, 0, 0)))),
        (BY_COLOUR, Image.fromarray(rgb(MEANT, (0, 0, 0), (0, 255, 0))).quantize(4)),
        (BOTH, Image.fromarray(MEANT)),
        (BOTH, palette(MEANT)),
        (BOTH, Image.fromarray(rgb(MEANT, (255, 0, 0), (0, 0, 255)))),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_labels_of_all_kinds_mean_the_same(tmp_path: Path, space: LabelSpace, image: Image.Image, suffix: str):
    if image.mode == "I" and suffix == "png":
        suffix = "tif"  # a PNG has 16 bits at most
    image.save(tmp_path / f"x.{suffix}")
    label = read_label(tmp_path / f"x.{suffix}", space)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, MEANT)


@pytest.mark.parametrize("suffix", ["bmp", "webp"])
def test_bitmaps_and_lossless_webp(tmp_path: Path, suffix: str):
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(rgb(MEANT, (5, 5, 5), (0, 255, 0))).save(tmp_path / f"x.{suffix}", **options)
    np.testing.assert_array_equal(read_label(tmp_path / f"x.{suffix}", BY_COLOUR), MEANT)


@pytest.mark.parametrize(
    ("depth", "row", "expected"), [(1, 0b01000000, [0, 1]), (2, 0b00010000, [0, 1]), (4, 0x41, [0, 1])]
)
def test_grey_of_few_bits_keeps_its_ids_though_pillow_stretches_it(tmp_path: Path, depth, row, expected):
    (tmp_path / "x.png").write_bytes(raw_png(2, 1, depth, 0, bytes((0, row))))
    assert read_label(tmp_path / "x.png", BY_ID).tolist() == [expected]


def test_black_and_white_by_colours_and_ids_of_sixteen_bits(tmp_path: Path):
    Image.fromarray(MEANT.astype(bool)).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", BY_COLOUR), 2 * MEANT)
    Image.fromarray(MEANT.astype(np.uint16) * 1000).save(tmp_path / "y.png")
    np.testing.assert_array_equal(read_label(tmp_path / "y.png", BY_ID), 2 * MEANT)


def test_void_by_id_by_colour_and_as_the_rest(tmp_path: Path):
    Image.fromarray(np.array([[0, 255, 1]], np.uint8)).save(tmp_path / "ids.png")
    assert read_label(tmp_path / "ids.png", BY_ID).tolist() == [[0, 255, 1]]
    Image.fromarray(np.array([[[0, 0, 0], [255, 0, 255], [9, 9, 9]]], np.uint8)).save(tmp_path / "rgb.png")
    rest = BY_COLOUR.model_copy(update={"void": BY_COLOUR.void.model_copy(update={"rest": True})})
    assert read_label(tmp_path / "rgb.png", LabelSpace.model_validate(rest.model_dump())).tolist() == [[0, 255, 255]]


def test_more_classes_than_eight_bits_hold(tmp_path: Path):
    entries = [{"name": f"c{i}", "colour": [i % 256, i // 256, 0], "ids": i} for i in range(300)]
    space = LabelSpace.model_validate({"name": "many", "entries": entries, "void": {"ids": [999]}})
    Image.fromarray(np.array([[0, 255, 299, 999]], np.uint16)).save(tmp_path / "x.png")
    label = read_label(tmp_path / "x.png", space)
    assert (label.dtype, label.tolist()) == (np.int16, [[0, 255, 299, 32767]])
    written = label_image(label[:, :3], space)
    assert (written.mode, np.asarray(written).tolist()) == ("I;16", [[0, 255, 299]])


@pytest.mark.parametrize(
    ("space", "mode", "expected"), [(BY_ID, "L", [[0, 1]]), (BY_COLOUR, "RGB", [[[0, 0, 0], [0, 255, 0]]])]
)
def test_what_is_written_is_what_is_read(tmp_path: Path, space: LabelSpace, mode: str, expected):
    few = space.model_copy(update={"entries": space.entries[:2]})
    image = label_image(np.array([[0, 1]], np.uint8), LabelSpace.model_validate(few.model_dump()))
    assert (image.mode, np.asarray(image).tolist()) == (mode, expected)


@pytest.mark.parametrize(
    ("space", "array", "message"),
    [
        (BY_ID, RGB, "in colours, but the classes have ids alone: give each class its `colours`"),
        (BY_COLOUR, IDS.astype(np.uint16), "of 16 bits, but the classes have colours alone"),
        (BY_ID, IDS.astype(np.float32), "a picture of mode F, expected ids"),
        (BY_ID, IDS.astype(np.int32) - 1, r"ids from -1 to \d+: at most 65535"),
    ],
)
def test_labels_of_another_kind_are_refused_with_the_cure(tmp_path: Path, space: LabelSpace, array, message: str):
    Image.fromarray(array).save(tmp_path / "x.tiff")
    with pytest.raises(BadFile, match=message):
        read_label(tmp_path / "x.tiff", space)


def test_unknown_colours_are_counted_and_named_with_the_nearest_class(tmp_path: Path):
    Image.fromarray(np.array([[[0, 0, 0], [1, 250, 0], [1, 250, 0], [250, 251, 252]]], np.uint8)).save(
        tmp_path / "x.png"
    )
    with pytest.raises(BadFile) as caught:
        read_label(tmp_path / "x.png", BY_COLOUR)
    assert str(caught.value).startswith(
        "2 colours that painted does not have: [1, 250, 0] in 2 pixels (nearest: tree [0, 255, 0]), "
        "[250, 251, 252] in 1 pixels (nearest: wall [255, 255, 255]); add them"
    )


@pytest.mark.parametrize(("suffix", "options"), [("webp", {"quality": 90}), ("tiff", {"compression": "jpeg"})])
def test_labels_compressed_with_loss_are_refused_with_the_reason(
    tmp_path: Path, suffix: str, options: dict[str, object]
):
    Image.fromarray(RGB).save(tmp_path / f"x.{suffix}", **options)
    with pytest.raises(BadFile, match=rf"this kind of {suffix.upper()} changes labels as it compresses"):
        read_label(tmp_path / f"x.{suffix}", BY_COLOUR)


def test_a_label_of_several_pages_is_refused(tmp_path: Path):
    pages = [Image.fromarray(IDS), Image.fromarray(IDS)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(BadFile, match="2 pages, and a label has one"):
        read_label(tmp_path / "x.tif", CITYSCAPES)


def test_a_label_that_exif_data_turn_is_refused(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IDS).save(tmp_path / "x.png", exif=exif)
    with pytest.raises(BadFile, match=r"its EXIF data turn it \(orientation 6\): save the label upright"):
        read_label(tmp_path / "x.png", CITYSCAPES)


def test_unknown_ids_are_named(tmp_path: Path):
    Image.fromarray(np.array([[3, 34, 255]], np.uint8)).save(tmp_path / "few.png")
    with pytest.raises(BadFile, match=r"unknown label ids 34, 255: ids of cityscapes are 0\.\.33"):
        read_label(tmp_path / "few.png", CITYSCAPES)
    Image.fromarray(np.arange(256, dtype=np.uint8)[None]).save(tmp_path / "all.png")
    with pytest.raises(BadFile, match=r"ids 12, 13, 14, 15, 16, 17, 18, 19, \.\.\.: ids of camvid are 0\.\.11"):
        read_label(tmp_path / "all.png", CAMVID)


def test_a_flipped_byte_in_a_label_is_found_by_its_checksum(tmp_path: Path):
    file = tmp_path / "x.png"
    Image.fromarray(IDS).save(file, compress_level=0)
    data = bytearray(file.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    file.write_bytes(data)
    with pytest.raises(BadFile, match=r"damaged .*: copy it again"):
        read_label(file, CITYSCAPES)


def test_a_jpeg_label_is_refused_whatever_its_name(tmp_path: Path):
    Image.fromarray(IDS).save(tmp_path / "x.png", format="JPEG")
    with pytest.raises(BadFile, match="JPEG changes labels as it compresses, along every edge: save labels as PNG"):
        read_label(tmp_path / "x.png", CITYSCAPES)


@pytest.mark.parametrize("side", [10_000, 30_000])  # Pillow warns of the first and refuses the second
def test_a_decompression_bomb_is_a_bad_file(tmp_path: Path, side: int):
    (tmp_path / "x.png").write_bytes(raw_png(side, side, 8, 0, b""))
    with pytest.raises(BadFile, match=r"more than \d+ million pixels"):
        read_label(tmp_path / "x.png", CITYSCAPES)
