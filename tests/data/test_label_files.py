"""Reading single images and labels of a data set, and telling what is wrong with a file."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effiseg.data.images import BadFile, read_image, read_label
from effiseg.data.labels import CAMVID, CITYSCAPES

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
    with pytest.raises(BadFile, match=rf"a PNG of mode {mode} with \d+ bits: a label is 8-bit grey"):
        read_label(tmp_path / "x.png", CITYSCAPES)


def test_a_four_bit_grey_label_is_refused_since_its_ids_would_be_stretched(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(raw_png(2, 1, 4, 0, b"\0\x12"))
    with pytest.raises(BadFile, match="a PNG of mode L with 4 bits"):
        read_label(tmp_path / "x.png", CITYSCAPES)


def test_sixteen_bit_and_cmyk_images_become_rgb(tmp_path: Path):
    Image.fromarray(IDS.astype(np.uint16) * 256 + 9).save(tmp_path / "grey.png")
    (tmp_path / "rgb.png").write_bytes(raw_png(1, 1, 16, 2, b"\0" + bytes((200, 9, 100, 9, 50, 9))))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "grey.png"))[..., 1], IDS)
    assert np.asarray(read_image(tmp_path / "rgb.png")).tolist() == [[[200, 100, 50]]]
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(np.asarray(read_image(tmp_path / "cmyk.jpg")).astype(int) - flat).max() <= 8


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
    with pytest.raises(BadFile, match=r"damaged .*: copy it again"):
        read_label(file, CITYSCAPES)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"empty \(0 bytes\): copy it again"),
        (b"hello\n" * 20, "not a PNG, JPEG, WEBP, BMP or TIFF file"),
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
    with pytest.raises(BadFile, match=r"more than \d+ million pixels"):
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
