"""The report: what stands on the page. What a browser makes of it is in test_browser.py."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sharpflat.report.captions import caption
from sharpflat.report.page import write_report
from sharpflat.report.runs import ALARMS as WORDS
from sharpflat.report.runs import alarms, provenance, run_times
from sharpflat.report.runs import text as in_one_line
from sharpflat.report.verdicts import claim_rows
from sharpflat.training.alarms import ALARMS

from .conftest import PNG

ALARM = {"not_converged": {"steps": 3, "first": 40, "worst": 1.0}}


def _summary(method: tuple[float, float], seconds: float = 10.0, **changes: Any) -> dict[str, Any]:
    prefix = {"task": "mnist_mlp", "loss": "mse", "tolerance": 0.1}
    return {
        "id": f"run-{method}",
        "prefix": "prefix",
        "record": {"prefix": prefix, "dom_weight": method[0], "bulk_weight": method[1]},
        "switch_step": 100,
        "last_step": 300,
        "status": "finished",
        "num_matvecs": 400,
        "seconds": seconds,
        "alarms": {},
        "versions": {"torch": "2.9"},
        "hardware": {"processor": "a processor", "accelerator": None},
        "device": "cpu",
        "threads": 1,
        "tf32": False,
        "deterministic_algorithms": True,
        "code": "abc",
        "data_origin": {"source": "mirror", "variant": "four images differ"},
    } | changes


def _folder(place: Path, summary: dict[str, Any]) -> Path:
    place.mkdir(parents=True)
    (place / "summary.json").write_text(json.dumps(summary))
    return place


@pytest.fixture
def page(tmp_path: Path) -> Path:
    statistics = {
        "claim": ["C7", "C7", "C7"],
        "figure": ["curvature_*", "curvature_energy", "curvature_energy"],
        "statistic": ["all: share", "mnist_mlp, mse: <share>", "sst2_transformer, mse: lacking"],
        "estimate": [0.93, math.inf, math.nan],
        "ci_low": [0.92, 0.9, math.nan],
        "ci_high": [0.94, math.inf, math.nan],
        "n": [3, 3, 0],
        "threshold": [0.9, 0.9, 0.9],
        "verdict": ["partly", "not reproduced", "inconclusive"],
        "decides": [False, True, True],
    }
    pd.DataFrame(statistics).to_csv(tmp_path / "claims.csv", index=False)
    energy = {
        "task": "mnist_mlp",
        "loss": "mse",
        "method": "sgd",
        "seed": 0,
        "step": [0] * 3 + [5] * 3,
        "steps_after_switch": [0] * 3 + [5] * 3,
        "matrix": 2 * ["hessian", "ggn", "functional_hessian"],
        "frobenius_share": [0.5, 0.5, 0.5, 0.88, 0.89, 0.02],
        "overlap": 0.97,
    }
    pd.DataFrame(energy).to_csv(tmp_path / "energy.csv", index=False)
    (tmp_path / "energy.png").write_bytes(PNG)
    write_report(
        tmp_path / "report.html",
        tier="smoke",
        name="smoke",
        figures={
            "curvature_energy": (
                "curvature_energy",
                tmp_path / "energy.csv",
                tmp_path / "energy.png",
            )
        },
        claims=tmp_path / "claims.csv",
        folders=[_folder(tmp_path / "run", _summary((1.0, 1.0), alarms=ALARM))],
        config={"seeds": [0, 1]},
    )
    return tmp_path / "report.html"


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_holds_figures_verdicts_and_provenance_and_needs_no_other_file(
    page: Path,
) -> None:
    text = page.read_text()
    links = _Links()
    links.feed(text)
    assert all(source.startswith(("data:", "#")) for source in links.sources)
    assert "data:image/webp;base64," in text
    assert 'class="verdict not-reproduced">not reproduced<' in text
    assert "&lt;share&gt;" in text
    assert "MLP, MNIST-5k, MSE: 0.88 of H, 0.89 of G, 0.02 of F; overlap 0.97" in text
    assert "limit of products 3 times, first at step 40" in text
    assert "four images differ" in text


def test_figures_come_first_then_verdicts_then_the_table_of_claims(page: Path) -> None:
    text = page.read_text()
    places = [text.index(f'id="{name}"') for name in ("figures", "verdicts", "claims", "runs")]
    assert places == sorted(places)
    assert "C7 curvature energy concentrates" in text[places[1] : places[2]]
    assert "share: 0.93 [0.92 to 0.94], n&nbsp;=&nbsp;3" in text[places[1] : places[2]]


def test_claims_stand_beside_their_figure_and_what_was_not_measured_is_folded_away(
    page: Path,
) -> None:
    text = page.read_text()
    figures, verdicts = text.index('id="figures"'), text.index('id="verdicts"')
    beside, claims = text[figures:verdicts], text.index('id="claims"')
    assert "&lt;share&gt;: <span" in beside
    assert "∞ [0.9 to ∞]" in beside
    assert "lacking" not in beside
    folded = text[text.index("Not measured in this tier: 1 rows") :]
    assert "lacking" in folded
    assert "lacking" not in text[claims : text.index("Not measured in this tier")]
    assert '<a href="#curvature_energy" data-panel="all">curvature_*</a>' in text


def test_a_claim_of_which_nothing_was_measured_has_no_verdict(tmp_path: Path) -> None:
    lacking = {"estimate": math.nan, "ci_low": math.nan, "ci_high": math.nan, "n": 0}
    measured = {"estimate": 0.8, "ci_low": 0.7, "ci_high": 0.9, "n": 5}
    rows = [("C1", "all: a", lacking), ("C1", "a", lacking), ("C2", "all: b", lacking)]
    rows += [("C2", "b", measured), ("C2", "c", lacking)]
    words = {"figure": "alignment", "threshold": 0.9, "verdict": "inconclusive"}
    claims = pd.DataFrame(
        [
            {"claim": claim, "statistic": text, **words, **numbers, "decides": ":" not in text}
            for claim, text, numbers in rows
        ]
    )
    found = [row.verdict for row in claim_rows(claims, ["alignment"])]
    assert found == ["not measured"] * 2 + ["inconclusive"] * 2 + ["not measured"]


def test_what_is_not_there_yet_is_named(small_tier: dict[str, Any], tmp_path: Path) -> None:
    kind, table, image = small_tier["figures"]["dom_bulk"]
    figures = {
        **small_tier["figures"],
        "ablation_k": ("ablation", tmp_path / "no.csv", image),
        "alignment": ("alignment", table, tmp_path / "no.png"),
        "dom_bulk": (kind, table, image),
    }
    folders = [*small_tier["folders"], tmp_path / "no-run"]
    page = tmp_path / "report.html"
    write_report(page, **small_tier | {"figures": figures, "folders": folders})
    text = page.read_text()
    absent = text[text.index('id="missing"') : text.index('id="verdicts"')]
    assert "plans, 2 had no table or no picture" in absent
    assert absent.index("(<code>alignment</code>)") < absent.index("(<code>ablation_k</code>)")
    assert 'id="ablation_k"' not in text
    assert "24 of the 25 runs that the configuration plans" in text
    # Figures stand in the order of the study, not in that of the alphabet.
    assert text.index('id="dom_bulk"') < text.index('id="ablation_lr"')


def test_a_tier_without_a_run_has_no_page(small_tier: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-run"):
        write_report(tmp_path / "report.html", **small_tier | {"folders": [tmp_path / "no-run"]})


def test_times_add_up_over_the_runs_of_a_method() -> None:
    summaries = [_summary((0.0, 1.0)), _summary((0.0, 1.0), 30.0), _summary((1.0, 0.0))]
    bulk, dominant = run_times(summaries)
    assert (bulk["method"], bulk["runs"], bulk["steps"]) == ("Bulk-SGD", 2, 400)
    assert bulk["products_a_step"] == 2.0
    assert bulk["seconds_a_step"] == pytest.approx(0.1)
    assert dominant["method"] == "Dom-SGD"


def test_provenance_lists_each_value_once() -> None:
    found = dict(provenance([_summary((1.0, 1.0)), _summary((1.0, 1.0), code="def")]))
    assert found["code"] == ["abc", "def"]
    assert found["versions"] == ["torch 2.9"]
    assert found["hardware"] == ["processor a processor"]


def test_options_of_an_optimizer_are_told_by_their_names() -> None:
    assert in_one_line([["momentum", 0.9], ["nesterov", False]]) == "momentum 0.9, nesterov false"
    assert in_one_line([]) == "[]"


def test_alarms_are_told_in_words() -> None:
    lines = alarms([_summary((1.0, 1.0)), _summary((1.0, 1.0), alarms=ALARM)])
    assert len(lines) == 1
    assert lines[0].endswith("limit of products 3 times, first at step 40, at worst 1")


def test_every_alarm_has_its_words() -> None:
    assert set(WORDS) == set(ALARMS)


def test_an_unknown_figure_has_no_caption() -> None:
    assert caption("of_my_own", pd.DataFrame()) == []
