"""`export --target`: what it writes where, what it tells, and that a failure leaves nothing."""

from types import SimpleNamespace

import pytest

from effiseg.__main__ import main
from effiseg.base.errors import EffiSegError
from effiseg.deployment import commands, tensorrt
from effiseg.deployment.edge import TARGETS
from effiseg.deployment.open import RUNTIMES


@pytest.fixture
def finished(model, card, data, tmp_path, monkeypatch):
    """A study with one finished run, `mine-3`; its folder is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "load_config", lambda: None)
    monkeypatch.setattr(commands, "open_prepared", lambda config: data)
    run = SimpleNamespace(name=card.name, card=card, load=lambda: model)
    monkeypatch.setattr(commands, "find_run", lambda config, data, name: run)
    return tmp_path


def test_a_target_has_a_folder_of_its_own_and_may_be_exported_again(finished, capsys):
    for _ in range(2):
        commands.export("mine-3", None, "tensorrt", (32, 64))
    assert sorted(path.name for path in (finished / "exports/mine-3-tensorrt").iterdir()) == [
        "model.onnx",
        "trtexec.txt",
    ]
    printed = capsys.readouterr().out
    assert "model.onnx in ONNX Runtime: " in printed and "0.000% of validation pixels differ" in printed
    assert printed.endswith(f"{tensorrt.COMMAND}\n")


def test_a_folder_of_something_else_is_refused(finished):
    folder = finished / "exports/mine-3"
    (folder / "checkpoint").mkdir(parents=True)
    with pytest.raises(EffiSegError, match=r"exports/mine-3: exists and is no earlier export for tensorrt; give a new"):
        commands.export("mine-3", folder, "tensorrt")
    assert [path.name for path in folder.iterdir()] == ["checkpoint"]


def test_a_failure_leaves_nothing(finished, monkeypatch):
    monkeypatch.delitem(tensorrt.SUPPORTED, "Gelu")
    with pytest.raises(EffiSegError, match="the operator Gelu"):
        commands.export("mine-3", None, "tensorrt")
    assert not list(finished.iterdir())


def test_a_size_needs_a_target(finished):
    with pytest.raises(EffiSegError, match=r"--size: only with --target, since model\.onnx takes images of any size"):
        commands.export("mine-3", None, None, (64, 64))


@pytest.mark.parametrize(
    ("command", "option", "known"), [("export", "--target", TARGETS), ("predict", "--runtime", RUNTIMES)]
)
def test_the_command_line_knows_every_target_and_runtime(command, option, known, monkeypatch, capsys):
    """It lists them itself, since their modules take seconds to import."""
    monkeypatch.setattr("sys.argv", ["effiseg", command, "--help"])
    with pytest.raises(SystemExit):
        main()
    assert f"{option} {{{','.join(known)}}}" in capsys.readouterr().out
