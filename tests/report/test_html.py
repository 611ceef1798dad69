import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from effiseg.base.config import load_config
from effiseg.report import figures
from effiseg.report.answer import answer
from effiseg.report.build import build_report
from effiseg.report.collect import collect
from effiseg.report.figures import FIGURES
from effiseg.report.html import html, marked
from effiseg.report.page import page
from effiseg.report.summary import summarise, views

Make = Callable[..., Any]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
    "--window-size=1200,900",
)  # fmt: skip


class Page(HTMLParser):
    """What the tests look at: the tables as text, the images, every attribute, and the text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.images: list[dict[str, str | None]] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self._within: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within.add(tag)
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        self._within.discard(tag)

    def handle_data(self, data: str) -> None:
        if not self._within & {"style", "script"}:
            self.words.append(data)
        if self._within & {"td", "th"}:
            self.tables[-1][-1][-1] += data


def text_of(study: Any) -> str:
    results = collect(study.config, study.root)
    return html(views(results), [])


def answer_of(study: Any) -> list[str]:
    results = collect(study.config, study.root)
    return answer(results, summarise(results))


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is tested elsewhere and slow."""
    monkeypatch.setattr(figures, "FIGURES", {"panels": FIGURES["panels"]})


def test_every_figure_is_inside_and_nothing_comes_from_outside(make_study: Make) -> None:
    study = make_study(study={"experiments": ["baseline"], "distillation": ["kd"]})
    build_report(study.config, study.root, study.out)
    text = (study.out / "index.html").read_text()
    found = Page(text)
    assert len(found.images) == len(FIGURES)
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in found.images)
    sources = [value for name, value in found.attributes if name in ("src", "href", "srcset", "action")]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "http://" not in text and "https://" not in text and "@import" not in text and "url(" not in text
    assert set(re.findall(r'href="#(.+?)"', text)) <= set(re.findall(r'id="(.+?)"', text))


@pytest.mark.usefixtures("one_figure")
def test_the_same_inputs_give_the_same_page(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1]})
    contents = []
    for _ in range(2):
        build_report(study.config, study.root, study.out)
        contents.append((study.out / "index.html").read_bytes())
    assert contents[0] == contents[1]


def test_the_tables_are_those_of_comparison_md(make_study: Make) -> None:
    """Each line to the last digit, rows without a result and references too."""
    study = make_study(study={"seeds": [0, 1]})
    for seed in (0, 1):
        (study.root / f"runs/tanh-{seed}/record.json").unlink()
    (study.root / "runs/kd-1/record.json").unlink()
    results = collect(study.config, study.root)
    markdown = page(views(results))
    tables = Page(text_of(study)).tables
    assert len(tables) == 6  # scores, training, costs, speeds at two sizes, classes
    for header, *lines in tables:
        assert f"| {' | '.join(header)} |" in markdown.replace("*", "")
        for line in lines:
            assert f"| {' | '.join(line)} |" in markdown.replace("*", "")
    names = [line[0] for line in tables[0][1:]]
    assert names == [*results.rows, "teacher (b2)", "floor: largest class", "floor: colour lookup"]
    verdicts = {line[0]: (line[4], line[9]) for line in tables[0][1:]}
    assert verdicts["tanh"] == ("no result", "0 (none of seed 0, 1)")
    assert verdicts["kd"] == ("one seed", "1 (none of seed 1)")


def test_everything_from_the_results_is_escaped(make_study: Make) -> None:
    hostile = "<script>alert(1)</script>&\"'"
    study = make_study(
        experiments={"baseline": {}, "<b onclick=x>": {"loss": {"resolution": "quarter"}}},
        study={"experiments": ["baseline", "<b onclick=x>"], "distillation": []},
    )
    study.change("runs/baseline-0/record.json", device=hostile, git_commit=hostile)
    found = Page(text_of(study))
    assert found.tags.count("script") == 1 and "b" not in found.tags
    assert "onclick" not in dict(found.attributes)
    words = "".join(found.words)
    assert f"{hostile}: baseline" in words
    assert found.tables[0][2][0] == "<b onclick=x>"
    assert marked("**a** `<b>` *c*") == "<strong>a</strong> <code>&lt;b&gt;</code> <em>c</em>"


def test_the_page_says_where_the_numbers_come_from(make_study: Make, tmp_path: Path) -> None:
    study = make_study()
    text = text_of(study)
    words = "".join(Page(text).words)
    assert study.read("prepared/index.json")["digest"] in words
    assert "0123abc" in words and "CPU, 2 threads, fp32" in words
    assert "model.norms.patch_embedding: dyt" in words
    assert "generated scenes, not photographs" in words
    params = tmp_path / "shown.yaml"
    params.write_text(unescape(re.findall(r"<pre><code>(.*?)</code>", text, re.DOTALL)[0]))
    assert load_config(params) == study.config


def test_one_seed_gives_no_verdict(make_study: Make) -> None:
    study = make_study()
    first, *others = answer_of(study)
    assert first.startswith("**One seed gives no verdict.**") and "4 validation images" in first
    (kd,) = [line for line in others if "kd" in line]
    gain = 100 * (study.metrics("kd")["miou"] - study.metrics("baseline")["miou"])
    assert kd.startswith("**Without a verdict") and f"kd {gain:+.2f} points (95 % interval" in kd


def test_the_answer_counts_and_names_the_verdicts(make_study: Make) -> None:
    study = make_study(study={"seeds": [0, 1, 2]})
    (study.root / "runs/tanh-1/record.json").unlink()
    for seed in (0, 1, 2):
        (study.root / f"runs/kd-{seed}/record.json").unlink()
    results = collect(study.config, study.root)
    summaries = summarise(results)
    first, *others = answer(results, summaries)
    counted = {}
    for row in summaries:
        if row.verdict in ("better", "worse", "not distinguishable"):
            counted[row.verdict] = counted.get(row.verdict, 0) + 1
    assert "over 2 to 3 seeds and 4 validation images, of 4 rows: " in first
    assert all(f"{count} {verdict}" in first for verdict, count in counted.items())
    assert "**No result:** kd (seed 0, 1, 2)." in others
    assert "**Seeds without a result:** tanh (seed 1)." in others
    gaining = [float(gain) for line in others for gain in re.findall(r"(\S+) points", line)]
    assert len(gaining) == 4


def test_classes_that_no_row_finds_are_named(make_study: Make) -> None:
    study = make_study(study={"experiments": ["baseline"], "distillation": ["kd"]})
    results = collect(study.config, study.root)
    summaries = summarise(results)
    assert not [line for line in answer(results, summaries) if "Never found" in line]
    for row in summaries:
        row.classes["car"][:] = [0.004]
    summaries[0].classes["bus"][:] = [0.0]  # the other row finds it
    (line,) = [line for line in answer(results, summaries) if "Never found" in line]
    assert line == (
        "**Never found:** car. Their IoU is below 0.5 % in every row, so that every Δ comes from the other 17 classes."
    )


def test_without_a_baseline_nothing_is_compared(make_study: Make) -> None:
    first, second, *_ = answer_of(make_study(study={"experiments": ["tanh"], "distillation": []}))
    assert first.startswith("**No row can be compared")
    assert second == "**Not compared: no seed in common with the baseline:** tanh."


def test_the_report_needs_no_torch() -> None:
    code = "import sys, effiseg.report.build; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# clicks headings of the first table and writes down what is seen
PROBE = """<script>addEventListener("load", () => {
  const table = document.querySelector("table");
  const column = i => [...table.tBodies[0].rows].map(row => row.cells[i].textContent);
  const click = i => { table.tHead.rows[0].cells[i].firstChild.click(); return column(i); };
  const found = {
    images: [...document.images].map(image => image.naturalWidth),
    sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    down: click(2), sort: table.tHead.rows[0].cells[2].ariaSort, up: click(2), rows: click(0),
    cleared: table.tHead.rows[0].cells[2].ariaSort, references: table.tBodies[1].rows[0].textContent,
    stops: [...document.querySelectorAll("thead button")].every(button => button.tabIndex === 0),
  };
  document.body.innerHTML = "<pre id=found></pre>";
  document.querySelector("#found").textContent = JSON.stringify(found);
});</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium on the PATH to open the page in")
def test_in_a_browser(make_study: Make, tmp_path: Path) -> None:
    study = make_study()
    (study.root / "runs/kd-0/record.json").unlink()
    build_report(study.config, study.root, study.out)
    text = (study.out / "index.html").read_text()
    # gains of different lengths and signs, which sorting as text would get wrong
    gains = iter(("+9.50", "-10.25", "+10.75", "-0.50"))
    text = re.sub(r"<td>[+-][\d.]+</td>", lambda _: f"<td>{next(gains)}</td>", text, count=4)
    probe = tmp_path / "probe.html"
    probe.write_text(text.replace("</body>", PROBE))
    command = [str(BROWSER), *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    found = json.loads(unescape(re.findall(r'<pre id="found">(.*?)</pre>', done.stdout)[0]))
    assert len(found["images"]) == len(FIGURES) and min(found["images"]) > 600
    assert found["down"] == ["+10.75", "+9.50", "-0.50", "-10.25", "–", "–"]
    assert found["up"] == ["-10.25", "-0.50", "+9.50", "+10.75", "–", "–"]
    assert (found["sort"], found["cleared"]) == ("descending", None)
    assert found["rows"] == sorted(found["rows"])
    assert found["references"].startswith("teacher")
    assert found["stops"] and found["sideways"] <= 0
