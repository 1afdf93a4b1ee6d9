"""The page in a headless Chromium. Oracle: the tables that it was made from, and axe-core."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharpflat.report.page import write_report

from .conftest import RATES, STEPS, SWITCH, loss

CHROMIUM = next(
    filter(
        None,
        map(shutil.which, ("chromium", "google-chrome", "chromium-headless-shell")),
    ),
    None,
)
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright on this machine")

DRAWN = ".explorer[data-figure='{}'] .plot .main-svg"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def opened(
    browser: Any, small_tier: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, list[str]]]:
    """The page, and what the browser complained about so far."""
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, **small_tier)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)  # generous: machines are slow when they are busy
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: _note_network(request.url, complaints))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    yield page, complaints
    page.close()


def _note_network(url: str, complaints: list[str]) -> None:
    if not url.startswith(("file:", "data:", "blob:")):
        complaints.append(f"asked for {url}")


@pytest.fixture
def page(opened: tuple[Any, list[str]]) -> Iterator[Any]:
    """As it was when opened."""
    page, _ = opened
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate("location.hash = ''")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    yield page


def _figure(page: Any, name: str) -> Any:
    """A figure's interactive part, once it is drawn."""
    figure = page.locator(f".explorer[data-figure='{name}']")
    figure.locator(".plot").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN.format(name))
    return figure


def _drawn(figure: Any) -> list[dict[str, Any]]:
    """The curves that Plotly holds: their words and their numbers."""
    traces = figure.locator(".plot").evaluate(
        "plot => plot.data.map(({x, y, hovertemplate}) => ({x, y, text: hovertemplate}))"
    )
    return list(traces)


def _last_point(figure: Any, name: str) -> tuple[float, float]:
    """Where the last point of a curve is in the window."""
    place = next(i for i, trace in enumerate(_drawn(figure)) if f"<b>{name}</b>" in trace["text"])
    box = figure.locator(".scatterlayer .trace").nth(place).locator(".point").last.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_hovering_over_a_point_tells_its_method_seed_step_value_and_run(page: Any) -> None:
    figure = _figure(page, "dom_bulk")
    page.mouse.move(*_last_point(figure, "Bulk-SGD, seed 1"))
    shown = figure.locator(".hoverlayer .hovertext").text_content()
    value = loss("mnist_mlp", "bulk_sgd", 1, RATES[0], STEPS[-1])
    assert f"Bulk-SGD, seed 1training loss {value:.6g}step {SWITCH + STEPS[-1]}" in shown
    assert "run 2010" in shown  # the end of the run's name


def test_a_click_on_a_point_tells_the_settings_of_its_run_and_what_it_was_made_with(
    page: Any,
) -> None:
    figure = _figure(page, "dom_bulk")
    page.mouse.click(*_last_point(figure, "Bulk-SGD, seed 1"))
    dialog = page.locator("dialog[open]")
    assert dialog.locator("h3").text_content() == "mnist_mlp-bulk_sgd-lr0.01-seed1-2010"
    text = dialog.text_content()
    assert "learning rate0.01" in text
    assert "torch 2.9" in text
    assert "data originnot recorded" in text
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_a_box_takes_the_curves_of_its_method_away_and_no_others(page: Any) -> None:
    figure = _figure(page, "dom_bulk")
    assert len(_drawn(figure)) == 6
    figure.get_by_label("Bulk-SGD").uncheck()
    figure.get_by_label("0", exact=True).uncheck()
    left = [trace["text"].split("<br>")[0] for trace in _drawn(figure)]
    assert left == ["<b>SGD, seed 1</b>", "<b>Dom-SGD, seed 1</b>"]
    assert figure.locator(".scatterlayer .trace").count() == 2


def test_the_paired_view_divides_by_sgd_of_the_same_seed(page: Any) -> None:
    figure = _figure(page, "dom_bulk")
    figure.get_by_label("view", exact=True).select_option("ratio")
    traces = _drawn(figure)
    assert len(traces) == 4
    runs = [(method, seed) for method in ("bulk_sgd", "dom_sgd") for seed in (0, 1)]
    for trace, (method, seed) in zip(traces, runs, strict=True):
        own, sgd = (
            [loss("mnist_mlp", name, seed, RATES[0], step) for step in STEPS]
            for name in (method, "sgd")
        )
        expected = [a / b for a, b in zip(own, sgd, strict=True)]
        assert trace["y"] == pytest.approx(expected, rel=1.1e-5)


def test_an_ablation_opens_at_the_end_of_runs_and_marks_those_that_diverged(page: Any) -> None:
    figure = _figure(page, "ablation_lr")
    traces = _drawn(figure)
    assert {tuple(trace["x"]) for trace in traces} == {(rate,) for rate in RATES}
    assert [trace["text"].split("<br>")[0] for trace in traces if "diverged" in trace["text"]] == [
        "<b>SGD, learning rate 0.1, seed 1</b>"
    ]


def test_a_claim_leads_to_its_figure_with_its_task_and_to_its_row(page: Any) -> None:
    page.get_by_label("show C2, sst2_transformer, mse: slope in the figure").click()
    figure = _figure(page, "dom_bulk")
    first = loss("sst2_transformer", "sgd", 0, RATES[0], 0)
    assert _drawn(figure)[0]["y"][0] == pytest.approx(first)
    page.get_by_label("row of C2, sst2_transformer, mse: slope").click()
    assert "sst2_transformer" in page.locator("tr:target").text_content()


def test_the_table_of_what_is_drawn_sorts_and_follows_the_choice(page: Any) -> None:
    figure = _figure(page, "dom_bulk")
    figure.get_by_label("SGD", exact=True).uncheck()
    figure.get_by_text("What is drawn, as a table").click()
    figure.get_by_role("button", name="training loss at the end").click()
    rows = figure.locator("tbody tr")
    assert rows.count() == 4
    value = loss("mnist_mlp", "bulk_sgd", 0, RATES[0], STEPS[-1])
    assert f"{value:.6g}" in rows.first.text_content()


def test_the_table_of_runs_is_filtered_to_the_runs_that_diverged(page: Any) -> None:
    page.get_by_text("runs, to sort and to filter").click()
    filters = page.locator(".filters:has(+ table.wide)")
    filters.get_by_label("ended", exact=True).select_option("diverged")
    shown = page.locator("table.wide tbody tr:visible")
    assert shown.count() == 2
    assert all("sgd-lr0.1-seed1" in row.get_attribute("id") for row in shown.all())


def test_choices_are_made_by_the_keyboard_alone(page: Any) -> None:
    figure = _figure(page, "dom_bulk")
    figure.get_by_label("task and loss", exact=True).focus()
    page.keyboard.press("ArrowDown")
    first = loss("sst2_transformer", "sgd", 0, RATES[0], 0)
    assert any(trace["y"][0] == pytest.approx(first) for trace in _drawn(figure))
    assert page.evaluate("document.activeElement.ariaLabel") == "task and loss"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == "quantity"


def test_a_table_without_steps_is_drawn_as_points(page: Any) -> None:
    figure = _figure(page, "of_my_own")
    figure.get_by_label("quantity", exact=True).select_option("seconds")
    figure.get_by_label("along", exact=True).select_option("size")
    assert [(trace["x"], trace["y"]) for trace in _drawn(figure)] == [
        ([1, 2], [0.5, 1]),
        ([1], [2]),
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page.emulate_media(color_scheme=scheme)
    figure = _figure(page, "dom_bulk")
    figure.get_by_text("What is drawn, as a table").click()
    found = axe.Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in serious] == []


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_nothing_is_cut_off(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    figure = _figure(page, "dom_bulk")
    figure.get_by_label("quantity", exact=True).select_option("alignment")  # the longest name
    figure.get_by_text("What is drawn, as a table").click()
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.locator(".statistic").last.evaluate(
        "cell => { cell.textContent = 'no_place_to_break'.repeat(9); }"
    )
    cut = page.evaluate(
        """() => [...document.querySelectorAll("body *:not(svg *)")].filter(element => {
            const box = element.getBoundingClientRect();
            return box.width && box.right > innerWidth + 0.5;
        }).map(element => element.outerHTML.slice(0, 200))"""
    )
    assert cut == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_browser_had_nothing_to_complain_about(opened: tuple[Any, list[str]]) -> None:
    """Last, so that it has seen what all others did."""
    _, complaints = opened
    assert complaints == []
