"""Reading single images of anybody, and telling what is wrong with a file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effiseg.data.images import BadFile, read_image
from tests.data.pictures import palette, raw_png

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
IDS = RNG.integers(0, 34, (6, 8), dtype=np.uint8)


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


def test_sixteen_bit_and_cmyk_images_become_rgb(tmp_path: Path):
    Image.fromarray(IDS.astype(np.uint16) * 256 + 9).save(tmp_path / "grey.png")
    (tmp_path / "rgb.png").write_bytes(raw_png(1, 1, 16, 2, b"\0" + bytes((200, 9, 100, 9, 50, 9))))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "grey.png"))[..., 1], IDS)
    assert np.asarray(read_image(tmp_path / "rgb.png")).tolist() == [[[200, 100, 50]]]
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(np.asarray(read_image(tmp_path / "cmyk.jpg")).astype(int) - flat).max() <= 8


def test_sixteen_bits_that_are_not_filled_are_refused_since_they_would_be_black(tmp_path: Path):
    Image.fromarray(np.array([[0, 1474]], np.uint16)).save(tmp_path / "ct.png")
    with pytest.raises(BadFile, match="16 bits whose largest value is 1474: the upper 8 bits are kept"):
        read_image(tmp_path / "ct.png")
    Image.fromarray(np.array([[0, 9000]], np.uint16)).save(tmp_path / "full.png")
    assert np.asarray(read_image(tmp_path / "full.png"))[0, 1].tolist() == [35, 35, 35]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_damaged_wherever_it_ends(tmp_path: Path, suffix: str):
    file = tmp_path / f"x.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    data = file.read_bytes()
    for length in range(1, len(data) - 16, len(data) // 20):
        file.write_bytes(data[:length])
        with pytest.raises(BadFile, match=r"damaged"):
            read_image(file)


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
