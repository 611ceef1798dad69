"""The pages of the site, as mkdocs asks for them.

The site has the repository's folders, so a link between two files that is right in the repository is right on the site,
and mkdocs, which knows all files, tells of every other. A page for each public module is made of its docstrings.
"""

import subprocess
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = "effiseg"
TOO_LARGE = ".safetensors"


def on_config(config: MkDocsConfig) -> None:
    """Add the modules to the navigation, package by package."""
    packages: dict[str, list[str]] = {}
    for module in _modules(config):
        packages.setdefault(".".join(module.split(".")[:2]), []).append(_page(module))
    config.nav.append({"Modules": [{name: pages} if len(pages) > 1 else pages[0] for name, pages in packages.items()]})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every file that git does not ignore, in its own place, the theme's, and the modules' pages."""
    repository = Path(config.config_file_path).parent
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout.split("\0")
    names = [name for name in listed if (repository / name).is_file() and not name.endswith(TOO_LARGE)]
    return Files(
        [file for file in files if file.src_dir != config.docs_dir]
        + [File(name, str(repository), config.site_dir, config.use_directory_urls) for name in names]
        + [File.generated(config, _page(name), content=f"# {name}\n\n::: {name}\n") for name in _modules(config)]
    )


def _modules(config: MkDocsConfig) -> list[str]:
    """The full names of all public packages and modules."""
    repository = Path(config.config_file_path).parent
    files = sorted((repository / PACKAGE).rglob("*.py"))
    names = [file.relative_to(repository).with_suffix("").parts for file in files]
    public = [name for name in names if not any(part.startswith("_") for part in name if part != "__init__")]
    return [".".join(name).removesuffix(".__init__") for name in public]


def _page(module: str) -> str:
    return f"api/{module}.md"
