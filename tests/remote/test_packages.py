"""What goes along of this environment."""

from effiseg.remote.packages import THERE, TRAINING, closure, package_files


def test_a_training_gets_all_that_it_needs_but_torch() -> None:
    names = {each.name.lower().replace("-", "_") for each in closure(TRAINING, without=THERE)}
    assert {*TRAINING, "huggingface_hub", "pydantic_core", "kornia_rs"} <= names
    assert not {"torch", "sympy", "mlflow", "dvc"} & names


def test_files_are_those_of_the_packages_and_no_scripts() -> None:
    files = package_files()
    assert {"transformers/__init__.py", "pandas/__init__.py", "ruamel/yaml/__init__.py"} <= files.keys()
    assert all(path.is_file() for path in files.values())
    assert not [name for name in files if ".." in name or "__pycache__" in name or "/tests/" in name]
    assert [name for name in files if name.startswith("transformers-") and name.endswith("METADATA")]
