import pytest

from hw.bench_page import COLUMNS, NARROW_COLUMNS, narrow_rows, rows, write_page, write_picture
from hw.errors import HardwareError
from hw.report import BenchReport, StageReport
from hw.resources import Resources


def stage(name, *, binding=True, bits=0, **changes) -> StageReport:
    fields = {
        "name": name, "binding": binding, "events": 1000, "mismatching_events": min(bits, 7),
        "mismatching_bits": bits, "largest_error_lsb": 0.5, "events_per_s": 12_345.6,
    }  # fmt: skip
    return StageReport(**{**fields, **changes})


def report(*stages, **changes) -> BenchReport:
    hashes = dict.fromkeys(("structure_hash", "weights_hash", "inputs_hash"), "ab" * 32)
    return BenchReport(model_name="<anomaly>", stages=(stage("emulator"), *stages), **hashes, **changes)


def test_every_stage_has_a_row_with_all_columns():
    one = report(stage("RTL", latency_cycles=71, interval_cycles=57), stage("torch float", binding=False))
    table = rows(one)
    assert {len(row) for row in table} == {len(COLUMNS)}
    assert table[1][5:7] == ("71", "57")
    assert [row[-1] for row in table] == ["oracle", "must agree", "for information"]
    assert table[2][3] == "not counted"


def test_in_a_terminal_a_row_fits_eighty_columns():
    name = "board udp://127.0.0.1:50001"
    one = report(stage(name, latency_cycles=141, interval_cycles=57), stage("torch float", binding=False))
    table = narrow_rows(one)
    assert table[1] == (name, "0", "0.5", "141 (57)", "12,346")
    assert table[2][1] == "for info"
    assert {len(row) for row in table} == {len(NARROW_COLUMNS)}
    widths = [max(map(len, column)) for column in zip(NARROW_COLUMNS, *table, strict=True)]
    assert sum(widths) + 3 * len(widths) + 1 <= 80


def test_the_page_says_whether_it_passed_and_lets_no_markup_in(tmp_path):
    path = tmp_path / "bench.html"
    known = Resources(source="yosys", tool="yosys 0.70", luts=23_100, note="<Xilinx>")
    write_page(report(stage("RTL"), resources=(known,), absent={"finn": "finn-plus is <not> here"}), path)
    text = path.read_text()
    assert "every bit agrees" in text
    assert "23,100" in text
    assert "finn-plus is &lt;not&gt; here" in text
    assert "<anomaly>" not in text
    assert "<Xilinx>" not in text
    assert "http" not in text.replace("http://www.w3.org", "")  # a control room has no internet
    write_page(report(stage("RTL", bits=9)), path)
    assert "do not load this package" in path.read_text()


def test_equal_benches_give_equal_pages(tmp_path):
    for name in ("a", "b"):
        write_page(report(stage("RTL")), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_picture_has_the_format_of_its_name(tmp_path):
    write_picture(report(stage("RTL", bits=3)), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(HardwareError, match=r"use \.png or \.svg"):
        write_picture(report(), tmp_path / "bench.exe")
    with pytest.raises(HardwareError, match="cannot be written"):
        write_picture(report(), tmp_path / "nowhere" / "bench.png")
