"""Finding pairs in both layouts, and reading single files."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effiseg.data.labels import CAMVID, CITYSCAPES
from effiseg.data.sources import BadFile, Problem, list_pairs, read_image, read_label, unusable

CITYSCAPES_FOLDERS = ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val")
CAMVID_FOLDERS = ("train", "trainannot", "val", "valannot")


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def touch_pair(root: Path, split: str, name: str) -> None:
    touch(root, f"leftImg8bit/{split}/{name}_leftImg8bit.png", f"gtFine/{split}/{name}_gtFine_labelIds.png")


def names(listing, split: str) -> list[str]:
    return [pair.name for pair in listing.pairs[split]]


def texts(listing) -> str:
    return " | ".join(f"{problem.path}: {problem.text}" for problem in listing.problems)


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    touch_pair(tmp_path, "train", "ulm/ulm_000001_000019")
    touch_pair(tmp_path, "train", "aachen/aachen_000000_000019")
    touch_pair(tmp_path, "val", "lindau/lindau_000000_000019")
    return tmp_path


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    touch(tmp_path, "train/b.png", "trainannot/b.png", "train/a.JPG", "trainannot/a.png")
    touch(tmp_path, "val/c.jpeg", "valannot/c.PNG")
    return tmp_path


@pytest.mark.parametrize("source", ["cityscapes", "synthetic"])
def test_cityscapes_pairs_are_matched_and_sorted(cityscapes: Path, source):
    listing = list_pairs(source, cityscapes)
    assert listing.problems == []
    assert listing.space is CITYSCAPES
    assert names(listing, "train") == ["aachen/aachen_000000_000019", "ulm/ulm_000001_000019"]
    pair = listing.pairs["val"][0]
    assert pair.image == cityscapes / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png"
    assert pair.label == cityscapes / "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png"


def test_what_else_an_official_download_holds_is_passed_over(cityscapes: Path):
    touch(cityscapes, "README", "license.txt", ".DS_Store", "leftImg8bit/train/README", "leftImg8bit/val/.DS_Store")
    touch(cityscapes, "leftImg8bit/test/berlin/berlin_0_0_leftImg8bit.png", "gtFine/test/berlin/berlin_0_0.json")
    touch(cityscapes, "leftImg8bit/train_extra/bonn/bonn_0_0_leftImg8bit.png")
    touch(cityscapes, "gtCoarse/train/ulm/ulm_000001_000019_gtCoarse_labelIds.png")
    base = "gtFine/val/lindau/lindau_000000_000019_gtFine"
    touch(cityscapes, *(f"{base}{end}" for end in ("_color.png", "_instanceIds.png", "_polygons.json")))
    touch(cityscapes, f"{base}_labelTrainIds.png", "gtFine/val/lindau/Thumbs.db")
    for twin in ("leftImg8bit/val/lindau/._lindau_000000_000019_leftImg8bit.png", "gtFine/val/._lindau"):
        touch(cityscapes, twin)
    touch(cityscapes, "gtFine/val/lindau/._lindau_000000_000019_gtFine_labelIds.png")
    listing = list_pairs("cityscapes", cityscapes)
    assert listing.problems == []
    assert sum(map(len, listing.pairs.values())) == 3


def test_camvid_pairs_are_matched_by_stem_in_any_case_and_test_is_passed_over(camvid: Path):
    touch(camvid, "test/x.png", "train/.DS_Store", "train/._a.png", "trainannot/Thumbs.db", "val/notes.txt")
    listing = list_pairs("camvid", camvid)
    assert listing.problems == []
    assert listing.space is CAMVID
    assert names(listing, "train") == ["a", "b"]
    assert names(listing, "val") == ["c"]


def test_the_same_stem_twice_is_a_problem(camvid: Path):
    touch(camvid, "train/b.jpg")
    listing = list_pairs("camvid", camvid)
    assert "train/b.png: the same sample as b.jpg: remove one" in texts(listing)


def test_symlinked_folders_work(cityscapes: Path, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (cityscapes / "leftImg8bit").rename(elsewhere / "images")
    (cityscapes / "leftImg8bit").symlink_to(elsewhere / "images")
    (cityscapes / "gtFine/val/lindau").rename(elsewhere / "lindau")
    (cityscapes / "gtFine/val/lindau").symlink_to(elsewhere / "lindau")
    root = elsewhere / "root"
    root.symlink_to(cityscapes)
    listing = list_pairs("cityscapes", root)
    assert listing.problems == []
    assert len(listing.pairs["val"]) == 1


def test_images_without_labels_and_the_reverse_are_problems_and_the_rest_still_pairs(cityscapes: Path):
    touch(cityscapes, "leftImg8bit/train/ulm/alone_leftImg8bit.png", "gtFine/val/bonn/left_gtFine_labelIds.png")
    listing = list_pairs("cityscapes", cityscapes)
    assert len(listing.problems) == 2
    assert "alone_leftImg8bit.png: its label gtFine/train/ulm/alone_gtFine_labelIds.png is missing" in texts(listing)
    assert "left_gtFine_labelIds.png: its image leftImg8bit/val/bonn/left_leftImg8bit.png is missing" in texts(listing)
    assert len(listing.pairs["train"]) == 2


def test_a_root_that_is_missing_or_a_file(tmp_path: Path):
    touch(tmp_path, "file")
    assert "no such folder: correct data.root, or unpack" in texts(list_pairs("cityscapes", tmp_path / "none"))
    assert "not a folder" in texts(list_pairs("cityscapes", tmp_path / "file"))


@pytest.mark.parametrize("source", ["cityscapes", "camvid"])
def test_missing_folders_are_named_with_what_is_there(tmp_path: Path, source):
    assert "it is empty" in texts(list_pairs(source, tmp_path))
    touch(tmp_path, *(f"folder{number}/x" for number in range(9)))
    folders = CITYSCAPES_FOLDERS if source == "cityscapes" else CAMVID_FOLDERS
    for folder in folders[:-1]:
        (tmp_path / folder).mkdir(parents=True)
    listing = list_pairs(source, tmp_path)
    assert f"no folder {folders[-1]} (it holds folder0, " in texts(listing)
    assert ", ...)" in texts(listing)


def test_a_missing_val_does_not_hide_the_problems_of_train(tmp_path: Path):
    touch(tmp_path, "train/a.png", "trainannot/b.png")
    listing = list_pairs("camvid", tmp_path)
    assert [problem.text.split(":")[0] for problem in listing.problems] == [
        "no folder val, valannot (it holds train, trainannot)",
        "its label trainannot/a.png is missing",
        "its image train/b.png or .jpg is missing",
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [("cityscapes", "leftImg8bit/val/<city>/<name>_leftImg8bit.png"), ("camvid", "val/<name>.png or .jpg")],
)
def test_an_empty_split_says_what_is_expected(tmp_path: Path, source, expected: str):
    for folder in CITYSCAPES_FOLDERS if source == "cityscapes" else CAMVID_FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    listing = list_pairs(source, tmp_path)
    assert f"no images (expected {expected})" in texts(listing)
    assert listing.pairs == {}


def test_a_folder_link_that_leads_nowhere_and_a_name_that_cannot_be_kept(cityscapes: Path):
    (cityscapes / "gtFine/val/bonn").symlink_to("nowhere")
    touch(cityscapes, "leftImg8bit/val/lindau/a\nb_leftImg8bit.png")
    listing = list_pairs("cityscapes", cityscapes)
    assert "gtFine/val/bonn: a link that leads nowhere" in texts(listing)
    error = unusable("cityscapes", cityscapes, listing.problems)
    assert "'leftImg8bit/val/lindau/a\\nb_leftImg8bit.png': its name holds unprintable characters" in str(error)


def test_an_unlistable_folder_is_a_problem(cityscapes: Path, monkeypatch: pytest.MonkeyPatch):
    listdir = Path.iterdir

    def deny(folder: Path):
        if folder.name == "lindau":
            raise PermissionError(13, "Permission denied")
        return listdir(folder)

    monkeypatch.setattr(Path, "iterdir", deny)
    assert "lindau: cannot be read (Permission denied)" in texts(list_pairs("cityscapes", cityscapes))


def test_many_problems_are_one_line_of_twenty():
    root = Path("/x")
    problems = [Problem(root / f"f{number}", "bad\nfile: mend it") for number in range(1, 24)]
    message = str(unusable("camvid", root, problems))
    assert message.startswith("data.root /x (source camvid): 23 problems: [1] f1: bad file: mend it; [2] f2: ")
    assert message.endswith("[20] f20: bad file: mend it; and 3 more")
    assert "1 problem: [1] gone" in str(unusable("camvid", root, [Problem(root, "gone")]))


# --- single files -----------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
IDS = RNG.integers(0, 34, (6, 8), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG of any bit depth, some of which Pillow cannot write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def palette(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids)
    image.putpalette([255 - i // 3 for i in range(768)])
    return image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_images_of_usual_modes_become_rgb(tmp_path: Path, mode: str):
    source = Image.fromarray(RGB).convert(mode)
    source.save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(source.convert("RGB")))


@pytest.mark.filterwarnings("error")
def test_transparency_of_a_palette_image_is_dropped_in_silence(tmp_path: Path):
    palette(IDS).save(tmp_path / "x.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "x.png"))[..., 0], 255 - IDS)


def test_a_jpeg_image_is_read(tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "x.jpg")
    assert read_image(tmp_path / "x.jpg").size == (8, 6)


@pytest.mark.parametrize("make", [Image.fromarray, palette], ids=["L", "P"])
def test_labels_are_ids_mapped_to_train_ids(tmp_path: Path, make):
    make(IDS).save(tmp_path / "x.png")
    label = read_label(tmp_path / "x.png", CITYSCAPES)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, [[CITYSCAPES.train_id_of[i] for i in row] for row in IDS.tolist()])


def test_a_palette_label_of_four_bits_keeps_its_ids(tmp_path: Path):
    ids = IDS % 12
    palette(ids).save(tmp_path / "x.png", bits=4)
    assert (tmp_path / "x.png").read_bytes()[24] == 4
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", CAMVID), np.where(ids == 11, 255, ids))


@pytest.mark.parametrize(
    ("mode", "array"),
    [
        ("I;16", IDS.astype(np.uint16)),
        ("RGB", RGB),
        ("RGBA", np.dstack([RGB, IDS])),
        ("LA", np.dstack([IDS, IDS])),
        ("1", IDS > 5),
    ],
)
def test_labels_of_other_modes_are_refused(tmp_path: Path, mode: str, array: np.ndarray):
    image = Image.fromarray(array)
    assert image.mode == mode
    image.save(tmp_path / "x.png")
    with pytest.raises(BadFile, match=rf"-bit PNG of mode {mode}: a label is 8-bit grey"):
        read_label(tmp_path / "x.png", CITYSCAPES)


def test_a_four_bit_grey_label_is_refused_since_its_ids_would_be_stretched(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(raw_png(2, 1, 4, 0, b"\0\x12"))
    with pytest.raises(BadFile, match="a 4-bit PNG of mode L"):
        read_label(tmp_path / "x.png", CITYSCAPES)


def test_sixteen_bit_and_cmyk_images_are_refused(tmp_path: Path):
    Image.fromarray(IDS.astype(np.uint16)).save(tmp_path / "grey.png")
    (tmp_path / "rgb.png").write_bytes(raw_png(1, 1, 16, 2, bytes(7)))  # Pillow says RGB
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "cmyk.jpg")
    for name, what in (("grey.png", "16-bit image of mode I;16"), ("rgb.png", "16-bit image of mode RGB")):
        with pytest.raises(BadFile, match=f"{what}: save it as 8-bit RGB"):
            read_image(tmp_path / name)
    with pytest.raises(BadFile, match="mode CMYK"):
        read_image(tmp_path / "cmyk.jpg")


def test_unknown_ids_are_named(tmp_path: Path):
    Image.fromarray(np.array([[3, 34, 255]], np.uint8)).save(tmp_path / "few.png")
    with pytest.raises(BadFile, match=r"unknown label ids 34, 255: ids of cityscapes are 0\.\.33"):
        read_label(tmp_path / "few.png", CITYSCAPES)
    Image.fromarray(np.arange(256, dtype=np.uint8)[None]).save(tmp_path / "all.png")
    with pytest.raises(BadFile, match=r"ids 12, 13, 14, 15, 16, 17, 18, 19, \.\.\.: ids of camvid are 0\.\.11"):
        read_label(tmp_path / "all.png", CAMVID)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_damaged_wherever_it_ends(tmp_path: Path, suffix: str):
    file = tmp_path / f"x.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    data = file.read_bytes()
    for length in range(1, len(data) - 16, len(data) // 20):
        file.write_bytes(data[:length])
        with pytest.raises(BadFile, match=r"damaged"):
            read_image(file)


def test_a_flipped_byte_in_a_label_is_found_by_its_checksum(tmp_path: Path):
    file = tmp_path / "x.png"
    Image.fromarray(IDS).save(file, compress_level=0)
    data = bytearray(file.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    file.write_bytes(data)
    with pytest.raises(BadFile, match=r"truncated or damaged image .*: copy it again"):
        read_label(file, CITYSCAPES)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"empty file \(0 bytes\): copy it again"),
        (b"hello\n" * 20, "not a PNG or JPEG file"),
        (b"GIF89a", "not a"),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, content: bytes, match: str):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(BadFile, match=match):
        read_image(tmp_path / "x.png")


def test_a_jpeg_label_is_refused_whatever_its_name(tmp_path: Path):
    Image.fromarray(IDS).save(tmp_path / "x.png", format="JPEG")
    with pytest.raises(BadFile, match="not a PNG file"):
        read_label(tmp_path / "x.png", CITYSCAPES)


@pytest.mark.parametrize("side", [10_000, 30_000])  # Pillow warns of the first and refuses the second
def test_a_decompression_bomb_is_a_bad_file(tmp_path: Path, side: int):
    (tmp_path / "x.png").write_bytes(raw_png(side, side, 8, 0, b""))
    with pytest.raises(BadFile, match=r"more than \d+ pixels"):
        read_label(tmp_path / "x.png", CITYSCAPES)


def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "link.png").symlink_to("nowhere")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(BadFile, match=r"No such file or directory\): check .* where the link leads"):
        read_image(tmp_path / "link.png")
    with pytest.raises(BadFile, match="Is a directory"):
        read_image(tmp_path / "folder.png")

    def deny(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)  # root may read everything, so chmod would prove nothing
    with pytest.raises(BadFile, match="Permission denied"):
        read_image(tmp_path / "x.png")
