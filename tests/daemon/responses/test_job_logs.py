from daemon.responses.job_logs import MOST_BYTES, MOST_LINES, job_logs
from daemon.site.settings import load_site
from tests.support.daemon import copy_site


def write(site, job, content):
    file = site.state_dir / "responses" / "anomaly-1-r1" / job / "job.log"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)


def test_logs_come_in_the_order_of_the_work_and_only_where_something_was_written(tmp_path):
    site = load_site(copy_site(tmp_path))
    write(site, "build", b"one\ntwo\n")
    write(site, "retrain", b"epoch 1\n")
    write(site, "bench", b"")

    logs = job_logs(site, "anomaly-1-r1")

    assert [(log.job, log.lines, log.whole) for log in logs] == [
        ("retrain", ("epoch 1",), True),
        ("build", ("one", "two"), True),
    ]
    assert job_logs(site, "anomaly-2-r1") == []


def test_of_a_huge_log_only_the_end_is_read_and_no_half_line(tmp_path):
    site = load_site(copy_site(tmp_path))
    lines = [f"line {number} {'x' * 90}" for number in range(100_000)]
    write(site, "retrain", "\n".join(lines).encode())

    (log,) = job_logs(site, "anomaly-1-r1")

    assert list(log.lines) == lines[-MOST_LINES:]
    assert not log.whole
    assert log.size_bytes > 100 * MOST_BYTES


def test_a_log_of_one_endless_line_shows_nothing_of_it_but_its_size(tmp_path):
    site = load_site(copy_site(tmp_path))
    write(site, "retrain", b"x" * 3 * MOST_BYTES)

    (log,) = job_logs(site, "anomaly-1-r1")

    assert (log.lines, log.size_bytes) == ((), 3 * MOST_BYTES)


def test_colours_bells_overwritten_progress_and_broken_text_are_left_out(tmp_path):
    site = load_site(copy_site(tmp_path))
    write(site, "retrain", b"\x1b[1;32mgood\x1b[0m\x07\n 10 %\r 20 %\r100 %\n\xff\xfe ok\x00\n")

    (log,) = job_logs(site, "anomaly-1-r1")

    assert log.lines == ("good", "100 %", "\ufffd\ufffd ok")
