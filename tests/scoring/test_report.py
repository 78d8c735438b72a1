"""The report of a score, in a real browser."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fcnseg.errors import SettingsError
from fcnseg.scoring.options import ScoreOptions
from fcnseg.scoring.report.score_report import page as pages
from fcnseg.scoring.report.score_report import write_report
from fcnseg.scoring.score import score_with
from tests.conftest import photograph
from tests.scoring.browser import opened
from tests.scoring.maps import random_maps, save

NAMES = ("road", "car", "<script>alert('x')</script>", "never seen")
SIZE = 60, 80


def report(folder: Path, images: int = 12, size: tuple[int, int] = SIZE, photographs: bool = True) -> Path:
    """A report over random maps with photographs."""
    for number in range(images):
        truth, predicted = random_maps(number, 3, size)
        right = np.random.default_rng(number).random(size) < number / images  # from bad to good
        name = f"scene <{number:04}>"
        save(folder / f"gt/{name}.png", truth.astype(np.uint8))
        save(folder / f"pred/{name}.png", np.where(right & (truth != 255), truth, predicted).astype(np.uint8))
        if photographs and number < 12:
            photograph(folder / f"photos/{name}.jpg", size[1], size[0], number)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    options = ScoreOptions(classes=str(folder / "classes.txt"), boundary=True)
    sides = str(folder / "pred"), str(folder / "gt")
    file = folder / "report.html"
    write_report(file, score_with(*sides, options), *sides, options, folder / "photos" if photographs else None)
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(tmp_path_factory.mktemp("report"))


def test_it_loads_alone_and_without_complaints(file: Path) -> None:
    with opened(file) as page:
        assert page.locator(".tiles dt").all_inner_texts()[:2] == ["Mean IoU", "Pixel accuracy"]
        assert page.locator("table.sortable tbody tr").count() == len(NAMES) - 1
        assert "never seen" not in page.locator("table.sortable").inner_text()
        page.locator("details.absent summary").click()
        assert page.locator("details.absent p").inner_text() == "never seen"
        assert NAMES[2] in page.locator("table.sortable").inner_text()
        assert page.locator("figure.chart svg").count() == 2
        assert page.locator("figure.case").count() == 9


def test_classes_sort_by_every_column(file: Path) -> None:
    with opened(file) as page:
        cells = page.locator("table.sortable tbody tr td:nth-child(2)")
        before = cells.all_inner_texts()
        header = page.locator("table.sortable thead button").nth(1)
        header.click()
        falling = cells.all_inner_texts()
        assert falling == sorted(before, key=float, reverse=True)
        header.press("Enter")
        assert cells.all_inner_texts() == sorted(before, key=float)
        assert page.locator("table.sortable [aria-sort]").get_attribute("aria-sort") == "ascending"
        page.locator("table.sortable thead button").first.click()
        assert cells.all_inner_texts() == before


def test_all_images_are_searched_sorted_and_opened(file: Path) -> None:
    with opened(file) as page:
        box = page.locator(".browse")
        names = box.locator("tbody th")
        assert names.count() == 12
        worst_first = [float(text) for text in box.locator("tbody tr td:nth-child(2)").all_inner_texts()]
        assert worst_first == sorted(worst_first)
        box.get_by_role("button", name=re.compile("^image")).click()
        assert names.all_inner_texts() == sorted(names.all_inner_texts())
        box.get_by_role("searchbox").fill("0003")
        assert box.get_by_role("status").inner_text() == "1 of 12 images"
        box.get_by_role("button", name=re.compile("scene <0003>")).press("Enter")
        picture = box.locator("tr.thumbnail img")
        assert picture.evaluate("e => e.decode().then(() => e.naturalWidth)") == 3 * SIZE[1] + 8
        assert "scene <0003>" in str(picture.get_attribute("alt"))
        box.get_by_role("button", name=re.compile("scene <0003>")).press("Enter")
        assert picture.count() == 0
        box.get_by_role("searchbox").fill("")
        box.get_by_role("combobox").select_option("car")
        of_class = [float(text) for text in box.locator("tbody tr td:last-child").all_inner_texts()]
        assert len(of_class) == 12
        assert of_class == sorted(of_class)
        assert page.get_by_role("region", name="Worst images of each class").count() == 0
        page.get_by_text("Worst images of each class").first.click()
        assert page.get_by_role("region", name="Worst images of each class").locator("tbody tr").count() == 3


def test_probabilities_of_two_classes_have_curves(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for side in ("pred", "gt"):
        (tmp_path / side).mkdir()
    for number in range(3):
        np.save(tmp_path / f"gt/{number}.npy", rng.random((8, 9)) < 0.5)
        np.save(tmp_path / f"pred/{number}.npy", rng.random((8, 9)))
    options = ScoreOptions(binary=True)
    sides = str(tmp_path / "pred"), str(tmp_path / "gt")
    write_report(tmp_path / "r.html", score_with(*sides, options), *sides, options)
    with opened(tmp_path / "r.html") as page:
        titles = page.locator("figure.chart figcaption").all_inner_texts()
        assert {"Calibration", "Figures by threshold", "Precision and recall"} <= set(titles)
        assert "Average precision" in page.locator(".tiles dt").all_inner_texts()


def test_pictures_flip_by_slider_buttons_and_key(file: Path) -> None:
    with opened(file) as page:
        case = page.locator("figure.case").first
        right = case.locator(".right")
        slider = case.locator("input")
        slider.fill("20")
        assert "20%" in right.evaluate("e => getComputedStyle(e).clipPath")
        case.get_by_role("button", name="Errors").click()
        assert case.locator(".wrong img").is_visible()
        assert not right.is_visible()
        assert slider.is_disabled()
        case.locator("button").first.focus()
        page.keyboard.press("f")  # on to the photograph
        assert case.locator(".photo img").is_visible()
        assert case.get_by_role("button", name="Photograph").get_attribute("aria-pressed") == "true"
        assert case.locator("img").first.evaluate("e => e.naturalWidth") == SIZE[1]


@pytest.mark.parametrize("width", [320, 390, 1100])
def test_no_width_makes_the_page_scroll_sideways(file: Path, width: int) -> None:
    with opened(file, viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light_can_be_read(file: Path) -> None:
    for scheme, dark in (("light", False), ("dark", True)):
        with opened(file, color_scheme=scheme) as page:
            body, text, axis = (
                sum(page.locator(what).first.evaluate(f"e => getComputedStyle(e).{style}.match(/\\d+/g).map(Number)"))
                for what, style in (("body", "backgroundColor"), ("body", "color"), ("figure.chart svg text", "fill"))
            )
            assert (body < 200, text > 500, axis > 500) == (dark, dark, dark)


def test_print_shows_all_pictures_and_no_controls(file: Path) -> None:
    with opened(file, viewport={"width": 718, "height": 1000}) as page:  # A4 with Chromium's margins
        page.emulate_media(media="print")
        assert not page.locator(".controls").first.is_visible()
        assert all(image.is_visible() for image in page.locator("figure.case img").all())
        names = page.locator("figure.case").first.locator(".view span")
        assert names.all_inner_texts() == ["Ground truth", "Prediction", "Errors", "Photograph"]
        for table in page.locator("table").all():  # nothing is cut off at the paper's edge
            assert table.evaluate("e => e.getBoundingClientRect().right") <= 718 or not table.is_visible()


def test_a_screen_reader_finds_names_and_tables(file: Path) -> None:
    with opened(file) as page:
        assert all(page.locator("img").nth(i).get_attribute("alt") for i in range(page.locator("img").count()))
        for chart in page.locator("figure.chart").all():
            assert chart.locator("[role=img]").get_attribute("aria-label")
            chart.locator("summary").click()
            assert chart.locator("table tbody tr").count() >= 7
        levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(e => +e.tagName[1])")
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert page.get_by_role("slider").count() == 9
        ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
        assert len(ids) == len(set(ids))


def test_two_heads_share_a_page(tmp_path: Path) -> None:
    for head, classes in (("semantic", 33), ("geometric", 3)):
        truth, predicted = random_maps(0, classes)
        save(tmp_path / f"gt/{head}/x.png", truth.astype(np.uint8))
        save(tmp_path / f"pred/{head}/x.png", predicted.astype(np.uint8))
    options = ScoreOptions(model="siftflow-fcn8s", boundary=True)
    sides = str(tmp_path / "pred"), str(tmp_path / "gt")
    write_report(tmp_path / "r.html", score_with(*sides, options), *sides, options)
    with opened(tmp_path / "r.html") as page:
        assert page.locator("table.sortable").count() == 2
        ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
        assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_a_thousand_images_stay_small(tmp_path: Path) -> None:
    assert report(tmp_path, 1000, (30, 40)).stat().st_size < 5_000_000


def test_no_photographs_are_no_fault(tmp_path: Path) -> None:
    with opened(report(tmp_path, 2, photographs=False)) as page:
        assert page.locator("figure.case").count() == 2
        assert page.locator(".photo img").count() == 0
    options = ScoreOptions(classes=str(tmp_path / "classes.txt"))
    sides = str(tmp_path / "pred"), str(tmp_path / "gt")
    with pytest.raises(SettingsError, match="nowhere"):
        write_report(tmp_path / "r.html", score_with(*sides, options), *sides, options, tmp_path / "nowhere")


def test_an_interruption_leaves_no_half_written_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = report(tmp_path, 2)
    before = file.read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for where in ("fcnseg.scoring.report.page._levels", "fcnseg.io.atomic.os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(where, stop)
            with pytest.raises(KeyboardInterrupt):
                pages.render(file, "score.html.j2", title="", summary="", heads=[], provenance=[])
        assert file.read_bytes() == before
        assert {p.name for p in tmp_path.iterdir()} == {"pred", "gt", "photos", "classes.txt", "report.html"}


def test_numbers_on_the_heat_map_can_be_read(file: Path) -> None:
    def channel(level: int) -> float:
        return level / 255 / 12.92 if level / 255 <= 0.04045 else ((level / 255 + 0.055) / 1.055) ** 2.4

    styles = re.findall(r"\.heat \.h\d+ \{ background: #(\w{6}); color: #(000|fff);", file.read_text())
    assert len(styles) == pages.LEVELS
    for paper, ink in styles:
        red, green, blue = (channel(int(paper[i : i + 2], 16)) for i in (0, 2, 4))
        luminances = sorted((0.2126 * red + 0.7152 * green + 0.0722 * blue, float(ink == "fff")))
        assert (luminances[1] + 0.05) / (luminances[0] + 0.05) >= 4.5  # WCAG AA


def test_many_classes_are_drawn_as_a_picture() -> None:
    counts = np.eye(100, dtype=np.int64)
    heat = pages.heat_map("Confusion", "", [f"class {i}" for i in range(100)], counts)
    assert heat.picture is not None
    assert heat.picture.startswith("data:image/png")
