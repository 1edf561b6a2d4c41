"""Effects are written in one form, read back the same, and refused with the cure when they make no sense."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contracts.contract import parse_contract
from streams.contracts.library import find_contract
from streams.effects.effect import NONE, Effect, parse_effect
from streams.effects.kinds import EVENTS, KINDS, describe_kinds
from streams.errors import EffectError

NUMBER = st.floats(-1e9, 1e9)
POSITIVE = st.floats(1e-9, 1e9)
FRACTION = st.floats(0, 1)
NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,12}", fullmatch=True)
INPUT = st.builds("{}[{}].{}".format, NAME, st.integers(0, 99), NAME)
WIDTHS = st.tuples(st.floats(0, 10), st.floats(0, 10))
POINT = st.tuples(NUMBER, NUMBER)
VALUES = {
    "gain": POSITIVE,
    "offset": NUMBER,
    "resolution": st.floats(0, 1e9),
    "tail": POSITIVE,
    "dead": st.integers(0, 255),
    "hole": POINT,
    "noise": POSITIVE,
    "pileup": st.floats(0, 10),
    "stuck": st.just("padding") | st.integers(-(2**15), 2**15 - 1),
    "bit": st.integers(0, 15),
    "swap": INPUT,
    "prescale": st.floats(1e-9, 1),
}
OPTIONS = {
    "tail": {"fraction": FRACTION},
    "hole": {"width": WIDTHS, "unit": st.sampled_from(["physical", "codes"])},
    "noise": {"fraction": FRACTION, "at": st.just("random") | POINT},
    "pileup": {"below": POSITIVE},
    "bit": {"at": st.integers(0, 1)},
}


@st.composite
def effects(draw):
    kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    first = draw(st.integers(0, 10**6))
    return Effect(
        kind.name,
        draw({"object": NAME, "input": INPUT, "events": st.just(EVENTS)}[kind.acts_on]),
        draw(VALUES[kind.name]),
        first,
        draw(st.none() | st.integers(first, 10**7)),
        draw(st.integers(1, 1000)) if kind.grows else 1,
        tuple((name, draw(values)) for name, values in OPTIONS.get(kind.name, {}).items()),
    )


@given(effects())
def test_what_is_written_reads_the_same(effect):
    assert parse_effect(str(effect)) == effect


def test_every_kind_can_be_drawn():
    assert VALUES.keys() == KINDS.keys()
    assert {name: set(options) for name, options in OPTIONS.items()} == {
        name: {option.name for option in kind.options} for name, kind in KINDS.items() if kind.options
    }


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("jet_gain=1.05@LS61", Effect("gain", "jet", 1.05, 61)),
        ("muon_gain=0.9", Effect("gain", "muon", 0.9, 0)),
        ("jet_dead=3@LS5", Effect("dead", "jet", 3, 5)),
        ("jet_gain=1.02@LS61+100", Effect("gain", "jet", 1.02, 61, ramp=100)),
        ("jet_gain=1.02@LS61+100-LS300", Effect("gain", "jet", 1.02, 61, 300, 100)),
        ("met_offset=-2.5@LS0-LS9", Effect("offset", "met", -2.5, 0, 9)),
        ("met_tail=3:fraction=0.005@LS61", Effect("tail", "met", 3, 61, options=(("fraction", 0.005),))),
        (
            "jet_hole=1.2,-0.6:width=0.4,0.3@LS61-LS90",
            Effect("hole", "jet", (1.2, -0.6), 61, 90, options=(("width", (0.4, 0.3)),)),
        ),
        ("big_jet[0].b_tag_stuck=padding", Effect("stuck", "big_jet[0].b_tag", "padding")),
        ("jet[0].eta_swap=jet[1].eta", Effect("swap", "jet[0].eta", "jet[1].eta")),
        ("none", NONE),
    ],
)
def test_reads_and_writes(text, effect):
    assert parse_effect(text) == effect
    assert str(effect) == text


def test_options_come_in_any_order_and_defaults_are_not_written():
    one = parse_effect("jet_noise=60:fraction=0.5:at=random")
    assert one == parse_effect("jet_noise=60:at=random:fraction=0.5")
    assert str(one) == "jet_noise=60:fraction=0.5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "badly written: write for example jet_gain=1.05@LS61, or none"),
        ("gain", "badly written"),
        ("jet_gain", "badly written"),
        ("jet_smear=1.1", "unknown kind 'smear': known are bit, dead, gain, hole, noise, offset, pileup"),
        ("jet_gain=1.05@61", "'@61' is badly written: write for example @LS61, @LS61-LS90 or @LS61"),
        ("jet_gain=1.05@LS61-90", "badly written: write for example @LS61, @LS61-LS90"),
        ("jet_gain=1.05@LS61-LS90+3", "badly written: write for example @LS61, @LS61-LS90"),
        ("jet_gain=1.05@LS61-LS60", "ends in LS 60 before it begins in LS 61: give a later end"),
        ("jet_gain=1.05@LS61+0", r"write for example @LS61\+100"),
        ("jet_dead=1@LS61+10", r"dead is all or nothing and cannot grow: drop \+10"),
        ("jet_gain=nan", "a gain is a number above 0, for example 1.05"),
        ("jet_gain=0", "above 0"),
        ("jet_gain=1e999", "above 0"),
        ("jet_gain=1e10", "above 0"),
        ("jet_gain=1.2.3", "above 0"),
        ("jet_gain=1_0", "above 0"),
        ("jet_offset=", "in the unit of pt, for example -1.5"),
        ("jet_resolution=-0.1", "a relative width from 0 on"),
        ("jet_dead=1.5", "a number from 0"),
        ("jet_hole=1.2:width=1,1", "the eta,phi of its centre, for example 1.2,0.6"),
        ("jet_hole=1.2,0.6,3:width=1,1", "the eta,phi of its centre"),
        ("jet_hole=1.2,0.6", "option 'width' is missing: write for example jet_hole=1.2,0.6:width=0.4,0.3"),
        ("jet_hole=1.2,0.6:width=-1,1", "full widths in eta,phi from 0 on"),
        ("jet_hole=1.2,0.6:width=1,1:unit=mm", "unit is physical or codes"),
        ("met_tail=3", "option 'fraction' is missing: write for example met_tail=3:fraction=0.005"),
        ("met_tail=3:fraction=2", "fraction is a number from 0 to 1"),
        ("met_tail=3:fraction=0.1:fraction=0.2", "option 'fraction' is given twice: drop one"),
        ("met_tail=3:part=0.1", "tail has no option 'part': it takes fraction"),
        ("jet_gain=3:part=0.1", "gain has no option 'part': it takes none"),
        ("met_tail=3:fraction", "option 'fraction' is badly written: write for example :fraction=0.005"),
        ("jet_pileup=11:below=30", "a number from 0 to 10"),
        ("jet_noise=60:fraction=0.1:at=here", "at is eta,phi, for example 1.2,0.6, or random"),
        ("jet_stuck=0", "stuck acts on one input, not on 'jet': write for example met"),
        ("jet[0].pt_gain=1.1", "gain acts on an object, not on 'jet.0..pt': write for example jet_gain=1.05"),
        (
            "jet_prescale=0.5",
            "prescale acts on 'events', not on 'jet': write for example events_prescale=0.25",
        ),
        ("events_prescale=0", "above 0 and up to 1"),
        ("met[0].pt_stuck=low", "at a code, for example 0, or at padding"),
        ("jet[0].pt_bit=16:at=1", "its number from 0 .the least. to 15"),
        ("jet[0].pt_bit=3:at=2", "at is 0 or 1"),
        ("jet[0].pt_swap=jet", "with another, for example jet"),
    ],
)
def test_refuses_what_it_cannot_read_in_one_line_with_the_cure(text, said):
    with pytest.raises(EffectError, match=said) as refused:
        parse_effect(text)
    assert str(refused.value).startswith(f"effect '{text}'")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tau_gain=1.1", "contract 'four-jets' has pt for jet, met"),
        ("tau_dead=0", r"contract 'four-jets' has no tau\[0\]"),
        ("jet_dead=4", r"contract 'four-jets' has no jet\[4\]"),
        ("met_hole=0,0:width=1,1", "object 'met' has no eta, only pt, phi: choose another"),
        ("met_noise=5:fraction=0.1", "object 'met' has no eta"),
        ("jet_noise=0.4:fraction=0.1", "a pt of 0.4 GeV has the code of a missing jet: give more"),
        ("jet[4].pt_stuck=0", r"no input 'jet\[4\].pt': did you mean"),
        ("jet[0].pt_stuck=256", "has codes 0 to 255: choose one of them"),
        ("jet[0].pt_bit=8:at=1", "has 8 bits: choose 0 to 7"),
        ("jet[0].eta_bit=7:at=1", "has 7 bits: choose 0 to 6"),
        ("jet[0].pt_swap=jet[0].pt", "cannot be swapped with itself: choose another input"),
    ],
)
def test_refuses_what_the_contract_does_not_have(four_jets, text, said):
    effect = parse_effect(text)
    with pytest.raises(EffectError, match=said) as refused:
        effect.check(four_jets)
    assert str(refused.value).startswith(f"effect '{text}'")
    with pytest.raises(EffectError, match=said):
        effect.apply(np.zeros((3, four_jets.n_inputs), np.int16), four_jets, 1, np.random.default_rng(0))


STAGED = "cannot be undone: use a contract of raw codes"


@pytest.mark.parametrize(
    "text",
    [
        "jet_gain=1.05",
        "jet_offset=1",
        "jet_resolution=0.1",
        "jet_tail=3:fraction=0.1",
        "jet_hole=0,0:width=1,1",
        "jet_noise=60:fraction=0.1",
        "jet_pileup=0.7:below=30",
    ],
)
def test_refuses_to_undo_the_scaling_of_firmware(text):
    with pytest.raises(EffectError, match=STAGED):
        parse_effect(text).check(find_contract("axol1tl-v4"))


@pytest.mark.parametrize(
    "text",
    [
        "jet_dead=3",
        "met[0].pt_stuck=padding",
        "jet[0].pt_bit=7:at=1",
        "jet[0].pt_swap=jet[1].pt",
        "events_prescale=0.5",
    ],
)
def test_acts_on_scaled_codes_where_nothing_is_undone(text):
    parse_effect(text).check(find_contract("axol1tl-v4"))


@pytest.mark.parametrize("text", [kind.example for kind in KINDS.values()])
def test_every_example_can_act_on_the_example_contract(contract, text):
    effect = parse_effect(text)
    effect.check(contract)
    assert str(effect) == text
    assert effect.kind in KINDS


def test_the_list_of_kinds_has_an_example_and_a_line_for_each():
    rows = describe_kinds()
    assert [parse_effect(example).kind for example, _ in rows] == list(KINDS)
    assert all(says and "\n" not in says for _, says in rows)


def test_refuses_histograms():
    contract = parse_contract(
        'name = "dqm"\nversion = 1\n[[histograms]]\nname = "jet.pt"\npath = "L1T/jet"\nkind = "th1"\n'
        "x = { bins = 10, low = 0.0, high = 1.0 }\n"
    )
    with pytest.raises(EffectError, match="lists histograms, and an effect needs events: use a contract"):
        parse_effect("jet_gain=1.05").check(contract)


def test_the_page_about_effects_has_every_kind():
    page = (Path(__file__).parents[3] / "docs" / "effects.md").read_text()
    assert re.findall(r"^\| `(\S+_\S+=\S+)` \| \D", page, re.MULTILINE) == [
        example for example, _ in describe_kinds()
    ]


def test_acts_from_its_first_to_its_last_lumisection(four_jets, event):
    effect, inputs = parse_effect("jet_dead=0@LS61-LS63"), event((40, 1, 1))
    changed = [
        (effect.apply(inputs, four_jets, number, np.random.default_rng(0)) != inputs).any()
        for number in range(59, 66)
    ]
    assert changed == [False, False, True, True, True, False, False]
    assert NONE.apply(inputs, four_jets, 61, np.random.default_rng(0)) is inputs


def test_grows_linearly_from_its_onset(four_jets):
    effect = parse_effect("met_gain=1.5@LS11+4-LS15")
    assert [effect.strength(number) for number in range(10, 17)] == [0, 0.25, 0.5, 0.75, 1, 1, 0]
    inputs = np.zeros((1, four_jets.n_inputs), np.int16)
    inputs[0, 0] = 40
    # 40 times 1.125, 1.25, 1.375, 1.5, and as much as a code can hold below the next code's part
    least = [40, 45, 50, 55, 60, 60, 40]
    found = [
        int(effect.apply(inputs, four_jets, number, np.random.default_rng(0))[0, 0])
        for number in range(10, 17)
    ]
    assert all(low <= code <= low + 1 for low, code in zip(least, found, strict=True))


def test_a_growing_tail_grows_in_its_fraction(four_jets):
    inputs = np.tile(np.array([[20, 5, *[0] * 12]], np.int16), (20_000, 1))
    effect = parse_effect("met_tail=3:fraction=0.4@LS1+4")
    shares = [
        (effect.apply(inputs, four_jets, number, np.random.default_rng(0))[:, 0] > 50).mean()
        for number in (1, 2, 4)
    ]
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.4], atol=0.02)
