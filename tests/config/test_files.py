"""The file itself: missing, not YAML, odd YAML, and harmless variations."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effiseg.base.config import load_config
from effiseg.base.errors import EffiSegError

TEXT = (Path(__file__).parents[2] / "params.yaml").read_text()


def test_without_a_path_params_yaml_of_the_working_directory_is_read(shipped, repository, monkeypatch, tmp_path):
    monkeypatch.chdir(repository)
    assert load_config() == shipped
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EffiSegError, match=r"^params\.yaml: not found"):
        load_config()


def test_a_missing_file_is_told_with_what_to_do(repository, tmp_path):
    with pytest.raises(EffiSegError, match=r"nowhere\.yaml: not found; run from the repository root"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_directory_in_place_of_the_file_is_told(tmp_path):
    with pytest.raises(EffiSegError, match="directory"):
        load_config(tmp_path)


def test_a_file_in_place_of_its_directory_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EffiSegError, match="cannot be read"):
        load_config(tmp_path / "file" / "params.yaml")


@pytest.mark.parametrize("content", ["", "# nothing\n", "- 1\n", "text", "1", "null", "--- |\n text\n", "!!set {a, b}"])
def test_a_file_without_a_mapping_is_told(refused, content):
    refused(content, "expected a mapping of sections")


NOT_YAML = {
    "binary": bytes(range(256)),
    "zeros": b"\0\0\0\0",
    "latin-1": TEXT.encode() + b"# \xe9\n",
    "tab": "data:\n\tsource: camvid\n",
    "unclosed": "data: [1, 2",
    "unknown alias": "data: *nothing",
    "two documents": TEXT + "\n---\ndata: {}\n",
    "duplicate section": TEXT + "\ndata: {}\n",
    "duplicate key": TEXT.replace("  variant: b0", "  variant: b0\n  variant: b2", 1),
    "unknown tag": "data: !thing {}",
    "python tag": "data: !!python/object/apply:os.getcwd []",
    "int tag": "data: !!int abc",
    "float tag": "data: !!float abc",
    "bool tag": "data: !!bool abc",
    "timestamp tag": "data: !!timestamp abc",
    "binary tag": 'data: !!binary "é"',
    "impossible date": "data: 2001-99-99",
    "mapping as key": "? {a: b}\n: 1\n",
    "merge of a number": TEXT + "\n  new: {<<: 1}\n",
    "bad directive": "%YAML x\n---\n" + TEXT,
    "too deep": "[" * 1500,
    "too many digits": "data: 1" + "0" * 5000,
}


@pytest.mark.parametrize("content", NOT_YAML.values(), ids=NOT_YAML)
def test_what_is_not_yaml_is_told_in_one_line(refused, content):
    refused(content, "not valid YAML")


ODD_BUT_YAML = {
    "recursive list": "data: &a [*a]",
    "recursive row": TEXT + "\n  new: &a {model: *a}\n",
    "recursive section of a row": TEXT.replace(
        "train: {epochs: 0, optimizer: {lr: 1.5e-3}}", "train: &a {optimizer: *a}"
    ),
    "list as key": TEXT + "\n  ? [a, b]\n  : {}\n",
    "date as value": TEXT.replace("root: data/synthetic", "root: 2001-01-01"),
    "line break in a key": TEXT + '\n"a\\nb": 1\n',
    "line break in a row": TEXT + '\n  "a\\nb": {}\n',
    "line break in the study": TEXT.replace("[kd, combined]", '["k\\nd"]'),
    "line break in a value": TEXT.replace("variant: b0", 'variant: "b\\n0"'),
    "other line break in a key": TEXT + '\n"a\\Lb\\Nc": 1\n',
    "null section": TEXT.replace("\nprofile:\n", "\nprofile:\nx:\n"),
    "exponential aliases": "a: &a [x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{key}: &{key} [{', '.join([f'*{last}'] * 8)}]\n" for last, key in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "data: *i\n",
}


@pytest.mark.parametrize("content", ODD_BUT_YAML.values(), ids=ODD_BUT_YAML)
def test_odd_yaml_is_refused_in_one_short_line(refused, content):
    refused(content)


@pytest.mark.parametrize(
    "content",
    [TEXT.replace("\n", "\r\n"), b"\xef\xbb\xbf" + TEXT.encode(), "%YAML 1.2\n---\n" + TEXT, TEXT + "...\n"],
    ids=["crlf", "byte order mark", "directive", "end mark"],
)
def test_harmless_variations_of_the_file_load(load, content):
    load(content)


def test_anchors_and_merge_keys_serve_in_rows(load):
    row = "\n  again: {model: &m {norms: &n {patch_embedding: dyt}}}\n  more: {model: {norms: {<<: *n, block: dyl}}}\n"
    norms = load(TEXT + row).row("more").model.norms
    assert (norms.patch_embedding, norms.block) == ("dyt", "dyl")


@given(st.binary(max_size=60) | st.text(alphabet="{}[]:-?!&*|>'\"%@` \n\tab1.~", max_size=40).map(str.encode))
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(EffiSegError) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
