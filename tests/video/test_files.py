"""Videos read and written: order, times, turns, odd sizes; and what is refused, with nothing left behind."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.video.files import in_order
from effiseg.video.frames import open_pictures, open_video
from effiseg.video.write import write_video

av = pytest.importorskip("av")
RATE = Fraction(30000, 1001)
SIZE = (96, 128)  # in much smaller ones libx264 does not write the same bytes every time


def scenes(count, size=SIZE):
    """Pictures (H, W, 3) of blocks of colours that go by, so that each is another."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), dtype=np.uint8)
    whole = blocks.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    return [np.roll(whole, 3 * i, axis=1) for i in range(count)]


def made(path, pictures, *, stamps=None, tick=None, codec="libx264rgb", turned=None, aspect=None, **options):
    """A video by the library itself; without loss, if its codec is not told."""
    with av.open(str(path), "w", options=options) as output:
        stream = output.add_stream(codec, rate=RATE, options={"qp": "0"} if codec == "libx264rgb" else {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "rgb24" if codec == "libx264rgb" else "yuv420p"
        stream.codec_context.time_base = tick or 1 / RATE
        if turned:
            stream.set_display_rotation(turned)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for stamp, pixels in zip(stamps or range(len(pictures)), pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.time_base, frame.pts = tick or 1 / RATE, stamp
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def read(path):
    with open_video(path) as clip:
        return clip, list(clip.frames)


# --- in ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi"])
def test_frames_come_whole_and_in_order(tmp_path, name):
    pictures = scenes(30)
    clip, frames = read(made(tmp_path / name, pictures))

    assert (clip.size, clip.count, clip.aspect) == (SIZE, 30, 1)
    assert float(clip.rate) == pytest.approx(float(RATE), abs=0.01)
    for frame, expected in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(frame.picture), expected)
    assert frames[16].name == f"{tmp_path / name}, frame 17"
    times = [float(frame.stamp * clip.tick) for frame in frames]
    np.testing.assert_allclose(times, np.arange(30) / float(RATE), atol=1e-3)


def test_times_are_kept_as_they_are(tmp_path):
    stamps = [90, 100, 110, 500, 510, 900]
    clip, frames = read(made(tmp_path / "a.mp4", scenes(6), stamps=stamps, tick=Fraction(1, 1000)))
    assert [round(1000 * frame.stamp * clip.tick) for frame in frames] == [0, 10, 20, 410, 420, 810]


def test_a_stream_without_times_has_those_of_its_rate(tmp_path):
    clip, frames = read(made(tmp_path / "a.h264", scenes(8), codec="libx264"))
    steps = np.diff([float(frame.stamp * clip.tick * clip.rate) for frame in frames])
    assert len(frames) == 8
    np.testing.assert_allclose(steps, 1, rtol=0.01)


@pytest.mark.parametrize(("degrees", "aspect"), [(90, Fraction(1, 2)), (-90, Fraction(1, 2)), (180, Fraction(2))])
def test_frames_are_turned_as_the_file_says(tmp_path, degrees, aspect):
    pictures = scenes(3)
    clip, frames = read(made(tmp_path / "a.mp4", pictures, turned=degrees, aspect=Fraction(2)))
    assert clip.size == np.rot90(pictures[0], degrees // 90).shape[:2]
    assert clip.aspect == aspect
    for frame, expected in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(frame.picture), np.rot90(expected, degrees // 90))


def test_sound_beside_the_pictures_does_not_matter(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        video, audio = output.add_stream("ffv1", rate=25), output.add_stream("aac", rate=44100)
        video.height, video.width, video.pix_fmt = *SIZE, "bgr0"
        for i, pixels in enumerate(scenes(5)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            output.mux(video.encode(frame))
            output.mux(audio.encode(silence(i)))
        output.mux([*video.encode(), *audio.encode()])
    _, frames = read(tmp_path / "a.mkv")
    assert len(frames) == 5


def silence(index):
    frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
    frame.rate, frame.pts = 44100, 1024 * index
    return frame


def test_sound_alone_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        audio = output.add_stream("aac", rate=44100)
        output.mux([*audio.encode(silence(0)), *audio.encode()])
    with (
        pytest.raises(EffiSegError, match=r"a\.mp4: holds no pictures, as of sound alone"),
        open_video(tmp_path / "a.mp4"),
    ):
        pass


def test_a_codec_that_nobody_decodes_is_no_damage(tmp_path):
    path = made(tmp_path / "a.mkv", scenes(2), codec="ffv1")
    path.write_bytes(path.read_bytes().replace(b"V_FFV1", b"V_NONE"))
    with pytest.raises(EffiSegError, match=r"a\.mkv: in a codec that ffmpeg does not know here"), open_video(path):
        pass


@pytest.mark.parametrize("content", [b"", b"no video " * 100, b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"])
def test_what_is_no_video_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(EffiSegError, match=r"a\.mp4: no video that ffmpeg reads"), open_video(tmp_path / "a.mp4"):
        pass


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_video_that_is_cut_off_is_told_with_the_frame(tmp_path, name):
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = made(tmp_path / name, scenes(90), codec="libx264", **options)
    content = path.read_bytes()
    path.write_bytes(content[: 6 * len(content) // 10])
    with pytest.raises(EffiSegError, match=rf"{name}: damaged after \d+ frames \(.+\); copy it") as told:
        read(path)
    assert 10 < int(str(told.value).split("damaged after ")[1].split()[0]) < 80


def test_a_cut_between_two_frames_is_seen(tmp_path):
    path = made(tmp_path / "a.mp4", scenes(30), codec="libx264", movflags="faststart")
    with av.open(str(path)) as container:
        cut = list(container.streams.video[0].index_entries)[20].pos
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(
        EffiSegError, match=r"a\.mp4: damaged after 20 frames \(the file ends before 30, which its index"
    ):
        read(path)


def test_a_video_without_its_end_where_the_index_is(tmp_path):
    path = made(tmp_path / "a.mp4", scenes(30))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(EffiSegError, match=r"a\.mp4: no video that ffmpeg reads, or it is cut off"), open_video(path):
        pass


def test_damage_in_the_middle_is_told(tmp_path):
    path = made(tmp_path / "a.mkv", scenes(60), codec="libx264")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    with open_video(path) as clip, pytest.raises(EffiSegError, match=r"a\.mkv: damaged after \d+ frames"):
        list(clip.frames)


def test_pictures_come_in_the_order_of_their_numbers(tmp_path):
    names = ["f1", "f2", "f10", "f010b", "g1"]
    paths = [tmp_path / f"{name}.png" for name in names]
    for i, path in enumerate(paths):
        Image.new("RGB", SIZE[::-1], (i, 0, 0)).save(path)
    clip = open_pictures(in_order(sorted(paths)), RATE)
    frames = list(clip.frames)
    assert [frame.picture.getpixel((0, 0))[0] for frame in frames] == [0, 1, 2, 3, 4]
    assert (clip.size, clip.count, clip.rate, clip.tick * RATE) == (SIZE, 5, RATE, 1)
    assert [frame.stamp for frame in frames] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("other", ["another size", "damaged"])
def test_a_picture_that_does_not_fit_is_named(tmp_path, other):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.new("RGB", SIZE[::-1]).save(path)
    if other == "damaged":
        paths[1].write_bytes(paths[1].read_bytes()[:50])
    else:
        Image.new("RGB", (40, 30)).save(paths[1])
    told = "40x30, but the first frame is 128x96; a video has one size" if other == "another size" else "damaged"
    with pytest.raises(EffiSegError, match=rf"1\.png: {told}"):
        list(open_pictures(paths, RATE).frames)


# --- out --------------------------------------------------------------------------------------------------------------


def written(path, pictures, stamps=None, tick=1 / RATE, aspect=Fraction(1)):
    with write_video(path, pictures[0].shape[:2], tick, RATE, aspect) as add:
        for stamp, pixels in zip(stamps or range(len(pictures)), pictures, strict=True):
            add(pixels, stamp)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_rate_times_and_shape_of_pixels_are_written(tmp_path, name):
    stamps = [0, 10, 20, 410, 420, 810]
    clip, frames = read(written(tmp_path / name, scenes(6), stamps, Fraction(1, 1000), Fraction(4, 3)))
    assert [round(1000 * frame.stamp * clip.tick) for frame in frames] == stamps
    assert (clip.size, clip.aspect) == (SIZE, 1 if name == "a.mkv" else Fraction(4, 3))
    clip, frames = read(written(tmp_path / name, scenes(30)))
    assert len(frames) == 30 and float(clip.rate) == pytest.approx(float(RATE), abs=0.02)


@pytest.mark.parametrize("size", [(33, 47), (32, 47), (33, 48)])
def test_an_odd_side_is_kept_where_it_can_be_and_else_is_one_more(tmp_path, size):
    pictures = scenes(4, size)
    clip, frames = read(written(tmp_path / "a.mkv", pictures))
    assert clip.size == size
    for frame, expected in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(frame.picture), expected)
    clip, frames = read(written(tmp_path / "a.mp4", pictures))
    assert clip.size == tuple(side + side % 2 for side in size)
    found = np.asarray(frames[0].picture).astype(int)
    if size[0] % 2:
        assert np.abs(found[-1] - found[-2]).max() < 30  # the last line twice


def test_colours_come_back_from_h264(tmp_path):
    colours = np.array([(128, 64, 128), (244, 35, 232), (220, 20, 60), (0, 0, 142), (107, 142, 35)], np.uint8)
    pixels = colours.repeat(32, 0)[None].repeat(64, 0)
    _, frames = read(written(tmp_path / "a.mp4", [pixels] * 3))
    found = np.asarray(frames[1].picture)[32, 16::32].astype(int)
    assert np.abs(found - colours).max() <= 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (1, 1)  # as players are told


def test_an_error_while_it_is_written_leaves_nothing(tmp_path):
    (tmp_path / "a.mp4").write_text("old")
    for count in (0, 3):
        with (
            pytest.raises(EffiSegError, match="mine"),
            write_video(tmp_path / "a.mp4", SIZE, 1 / RATE, RATE, Fraction(1)) as add,
        ):
            for i, pixels in enumerate(scenes(count)):
                add(pixels, i)
            raise EffiSegError("mine")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.mp4", "old")]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(EffiSegError, match=r"gone/a\.mp4: cannot be written \(No such file"):
        written(tmp_path / "gone/a.mp4", scenes(2))
