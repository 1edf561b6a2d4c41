"""Every benchmark runs, agrees with its baseline, and says what it found in well-formed rows."""

import math
from datetime import UTC, datetime

import pytest

from tests.benchmarks import run as module
from tests.benchmarks.row import Row, best_seconds

EXAMPLE = Row(
    name="fill, 10 x 2",
    value=0.7123,
    unit="ns/value",
    baseline="numpy.bincount",
    baseline_value=1400.4,
    ratio=5.2,
    target=">= 5x",
    met=True,
)


@pytest.mark.parametrize("name", module.names())
def test_a_quick_run_agrees_with_its_baseline_and_gives_well_formed_rows(name):
    rows = module.run(name, quick=True)
    assert rows
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.name
        assert row.unit
        for number in (row.value, row.baseline_value, row.ratio):
            assert number is None or (math.isfinite(number) and number >= 0)
        assert (row.baseline is None) <= (row.baseline_value is None)
        assert (row.target is None) == (row.met is None)


def test_a_row_is_shown_with_its_baseline_and_what_was_missed():
    missed = Row(name="other", value=2.0, unit="s", target="<= 1 s", met=False)
    lines = module.table([EXAMPLE, missed]).splitlines()
    expected = "| fill, 10 x 2 | 0.712 ns/value | numpy.bincount: 1,400 ns/value | 5.2 | >= 5x | yes |"
    assert lines[2] == expected
    assert lines[3] == "| other | 2 s |  |  | <= 1 s | **missed** |"


def test_a_section_of_the_page_is_replaced_and_the_rest_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Benchmarks\n\nWords.\n\n<!-- begin fill -->\nold\n<!-- end fill -->\n\nMore words.\n")
    module.write_section(page, "fill", [EXAMPLE], datetime(2026, 1, 2, tzinfo=UTC))
    module.write_section(page, "other", [EXAMPLE], datetime(2026, 1, 2, tzinfo=UTC))
    text = page.read_text()
    assert "old" not in text
    assert "2026-01-02, " in text
    assert text.index("Words.") < text.index("<!-- begin fill -->") < text.index("More words.")
    assert text.index("More words.") < text.index("<!-- begin other -->")


def test_a_misspelt_benchmark_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        module.main(["fil"])
    assert ended.value.code == 2
    assert "no benchmark 'fil'" in capsys.readouterr().err


def test_the_shortest_of_several_times_counts():
    calls = []
    seconds = best_seconds(lambda: calls.append(1), 3, inner=2)
    assert len(calls) == 6
    assert seconds >= 0
