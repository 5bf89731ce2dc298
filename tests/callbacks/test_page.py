"""The HTML page: well formed, whole in itself, and safe against any name."""

import base64
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from keras_ext._atomic import write_text
from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.report.html import document, table
from keras_ext.callbacks.monitor.report.page import page

pytestmark = pytest.mark.backend_free

EMPTY = {"meta", "img", "br", "hr", "link", "input"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Reader(HTMLParser):
    """Reads a page, and raises where a tag is not closed by its own."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(filter(None, self.texts))


@pytest.mark.parametrize("arguments", [{}, {"snapshots": 1, "layers": 30}, {"unhealthy": True}, {"kinds": ("gelu",)}])
def test_it_is_well_formed(made_snapshots, arguments):
    read = Reader(page(*made_snapshots(**arguments)))
    assert [len(read.all(tag)) for tag in ("html", "head", "body", "title", "h1", "img")] == [1] * 6
    assert read.all("html")[0]["lang"] == "en"
    assert read.all("meta")[0] == {"charset": "utf-8"}


def test_it_needs_nothing_from_elsewhere(made_snapshots):
    text = page(*made_snapshots())
    read = Reader(text)
    assert not {"script", "link", "iframe", "object", "a"} & {tag for tag, _ in read.tags}
    assert {
        name for _, attributes in read.tags for name in attributes if name in ("href", "srcset", "style") or name.startswith("on")
    } == set()
    (image,) = read.all("img")
    kind, data = image["src"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    assert not re.search(r"https?:|url\(|@import", text)


def test_the_verdict_comes_first_in_words(made_snapshots):
    snapshots, findings = made_snapshots()
    text = Reader(page(snapshots, findings, "Digits")).text
    assert text.startswith(
        "Digits: 2 critical findings and 2 warnings Digits 2 critical findings and 2 warnings 3 snapshots, the last epoch 2"
    )
    assert "Nothing critical, 1 warning" in Reader(page(snapshots, findings[:1])).text
    healthy = Reader(page(snapshots, []))
    assert "Nothing found" in healthy.text
    assert "No layer is outside the limits." in healthy.text
    assert {"class": "verdict good"} in healthy.all("p")


def test_findings_are_sorted_by_severity_and_say_what_to_do(made_snapshots):
    snapshots, findings = made_snapshots()
    read = Reader(page(snapshots, findings))
    assert [s["class"] for s in read.all("section")] == ["finding critical"] * 2 + ["finding warning"] * 2
    reported = read.text
    assert "critical: saturated 90% of its sigmoid outputs are saturated. Use relu. layer_1 , epoch 2, step 90: 0.9 (limit 0.5)" in reported
    assert "the whole network, epoch 2, step 90: 1e-4 (limit 0.001)" in reported


def test_many_places_of_one_finding_are_folded(made_snapshots):
    snapshots, _ = made_snapshots(layers=20)
    findings = [Finding("saturated", "warning", f"layer_{i + 1}", 0, 0, 0.9, 0.5, f"{i}% of it. Use relu.") for i in range(9)]
    read = Reader(page(snapshots, findings))
    assert len(read.all("section")) == len(read.all("details")) == 1
    assert "9 layers, the first layer_1" in read.text
    assert Reader(page(snapshots, findings[:8])).all("details") == []


def test_the_picture_is_described(made_snapshots):
    assert Reader(page(*made_snapshots())).all("img")[0]["alt"].endswith("2 critical findings and 2 warnings.")


def test_the_tables_hold_the_numbers(made_snapshots):
    snapshots, findings = made_snapshots(unhealthy=True)
    text = page(snapshots, findings)
    assert "<td>not finite" not in text
    assert '<td class="words name">layer_1</td><td class="critical">not finite</td>' in text
    assert '<td class="words critical">critical: vanishing gradient</td>' in text
    assert '<td class="words name">layer_4</td><td class="quiet">0%</td>' in text
    assert "<tr><td>1</td><td>45</td><td>1.15</td><td>0.5</td><td>25%</td></tr>" in text
    assert "<tr><td>2</td><td>90</td><td>inf</td><td>0.5</td><td>25%</td></tr>" in text
    assert "skipped steps" not in text


def test_every_text_is_escaped(made_snapshots):
    snapshots, _ = made_snapshots(snapshots=1)
    evil = "</title><script>alert(\"1\" & '2')</script>"
    renamed = [
        replace(
            snapshot,
            activations=tuple(replace(a, layer=evil) for a in snapshot.activations[:1]),
            weights=(replace(snapshot.weights[0], layer=evil),),
        )
        for snapshot in snapshots
    ]
    findings = [Finding(evil, evil, evil, 0, 0, 1.0, 0.5, evil), Finding("saturated", "critical", evil, 0, 0, 1.0, 0.5, evil)]
    read = Reader(page(renamed, findings, evil))
    assert read.all("script") == []
    # Title, heading, two findings (severity, symptom, advice and layer; advice and layer), the table's row.
    assert read.text.count(evil) == 2 + 4 + 2 + 1


def test_names_that_matplotlib_would_typeset_are_drawn(made_snapshots):
    snapshots, _ = made_snapshots(snapshots=1)
    odd = replace(snapshots[0], activations=(replace(snapshots[0].activations[0], layer=r"$\frac{$ a_b"),), weights=())
    assert r"$\frac{$ a_b" in Reader(page([odd], [])).text


def test_without_snapshots_it_says_so():
    read = Reader(page([], []))
    assert read.all("img") == []
    assert read.text.endswith("The monitor has not observed the model yet.")


def test_it_has_colours_for_light_and_dark(made_snapshots):
    style = re.search(r"<style>(.*)</style>", page(*made_snapshots()), re.DOTALL).group(1)
    assert "color-scheme: light dark" in style
    light, dark = (dict(re.findall(r"--(\w+): #(\w{6})", part)) for part in style.split("@media (prefers-color-scheme: dark)")[:2])
    assert set(light) == set(dark)
    for colours in (light, dark):
        for name in set(colours) - {"page", "box", "line"}:
            for ground in ("page", "box"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(a, b):
    """Return the contrast of two colours as WCAG 2 defines it; from 4.5 on a text is readable."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_it_is_written_whole(made_snapshots, tmp_path):
    path = tmp_path / "reports" / "report.html"
    write_text(path, page(*made_snapshots(), title="Ärger"))
    assert path.read_text(encoding="utf-8") == page(*made_snapshots(), "Ärger")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(OSError):
        write_text(path / "below_a_file.html", page(*made_snapshots()))


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_browser_shows_it(made_snapshots, tmp_path):
    write_text(tmp_path / "report.html", page(*made_snapshots()))
    command = [BROWSER, "--headless", "--disable-gpu", "--no-sandbox", "--dump-dom", (tmp_path / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "2 critical findings" in done.stdout


def test_what_stands_in_a_page_is_escaped():
    assert document("a < b", ["<p>text</p>"]).splitlines()[3] == "<title>a &lt; b</title>"
    assert table(["a"], [[("critical", "<1>")]], set())[3] == '<tr><td class="critical">&lt;1&gt;</td></tr>'
