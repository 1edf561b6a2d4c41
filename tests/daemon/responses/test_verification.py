from daemon.responses.verification import Verification, VerificationState, verify
from streams.judging.verdict import State, Verdict
from tests.support.daemon import make_verdict


def judge(verdicts: list[Verdict]) -> Verification:
    return verify(verdicts, needed=3, allowed_misses=1, rate_band=0.10)


def good(lumisection: int, **changes: object) -> Verdict:
    return make_verdict(lumisection, State.GOOD, **changes)


def test_nothing_judged_waits():
    assert judge([make_verdict(80, State.INSUFFICIENT)]).state is VerificationState.WAITING


def test_enough_good_windows_pass():
    found = judge([good(80), good(81), good(82)])

    assert found.state is VerificationState.PASSED
    assert (found.first_lumisection, found.last_lumisection) == (80, 82)


def test_too_few_wait():
    assert judge([good(80), good(81)]).state is VerificationState.WAITING


def test_one_miss_is_allowed_two_fail_at_once():
    bad = make_verdict(81, State.WARNING, families=("score",))

    assert judge([good(80), bad, good(82)]).state is VerificationState.PASSED
    assert judge([bad, make_verdict(82, State.ALARM, families=("rate",))]).state is VerificationState.FAILED


def test_inputs_alone_are_no_miss_because_the_detector_is_still_drifted():
    found = judge(
        [make_verdict(n, State.ALARM, families=("inputs",), rate_deviation=0.01) for n in (80, 81, 82)]
    )

    assert found.state is VerificationState.PASSED


def test_a_rate_outside_the_band_is_a_miss_even_without_significance():
    assert (
        judge([good(80, rate_deviation=0.11), good(81, rate_deviation=-0.11)]).state
        is VerificationState.FAILED
    )


def test_windows_beyond_the_needed_ones_do_not_count():
    late = [make_verdict(n, State.ALARM, families=("rate",)) for n in (83, 84)]

    assert judge([good(80), good(81), good(82), *late]).state is VerificationState.PASSED
