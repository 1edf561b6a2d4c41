"""Summaries count every event once, add in any order, and survive the wire; other bytes are refused."""

import dataclasses
import itertools
import json
import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contracts.contract import parse_contract
from streams.counting.codec import MAGIC, decode_summary, encode_summary
from streams.counting.layout import MAX_PAIRED_INPUTS, N_SCORE_BINS, Layout, fill, score_bin_edges, score_bins
from streams.counting.summary import BatchId, merge, merge_all, summarise
from streams.errors import MalformedMessage, SummaryError

SCORES = st.integers(-(2**31), 2**31 - 1)


def same(first, second):
    return encode_summary(first) == encode_summary(second)


@pytest.fixture(scope="module")
def parts(make_batch, contract):
    return [summarise(make_batch(50 + seed, seed, sequence=seed), contract, digest=seed) for seed in range(4)]


def test_every_histogram_is_the_plain_count_of_its_column(make_batch, contract):
    batch = make_batch(500)
    summary = summarise(batch, contract)
    for index, spec in enumerate(contract.inputs):
        codes, counts = np.unique(batch.inputs[:, index], return_counts=True)
        expected = np.zeros(spec.maximum - spec.minimum + 1, dtype=np.int64)
        expected[codes - spec.minimum] = counts
        np.testing.assert_array_equal(summary.codes(index), expected)
        assert summary.underflow(index) == summary.overflow(index) == 0
    assert summary.n_events == 500
    assert summary.n_accept == np.count_nonzero(batch.accept)
    assert summary.score.sum() == 500


def test_codes_outside_of_the_contract_are_counted_as_flow(make_batch, contract):
    inputs = np.zeros((3, contract.n_inputs), dtype=np.int16)
    eta = contract.input_index("jet[2].eta")
    inputs[:, eta] = [-116, 2**15 - 1, -115]
    summary = summarise(make_batch(3, inputs=inputs), contract)
    assert (summary.underflow(eta), summary.overflow(eta), summary.codes(eta)[0]) == (1, 1, 1)


def test_maps_hold_each_object_that_is_there_once(make_batch, contract):
    batch = make_batch(300)
    summary = summarise(batch, contract)
    for name, count in (("jet", 10), ("muon", 4), ("egamma", 4), ("met", 1)):
        pts = [contract.input_index(f"{name}[{index}].pt") for index in range(count)]
        assert summary.map(name).sum() == np.count_nonzero(batch.inputs[:, pts])
    with pytest.raises(SummaryError, match="there are met, egamma, muon, jet"):
        summary.map("tau")


def test_a_map_cell_is_where_the_object_is(make_batch, contract):
    inputs = np.zeros((1, contract.n_inputs), dtype=np.int16)
    start = contract.input_index("jet[0].pt")
    inputs[0, start : start + 3] = [80, 115, 143]
    cells = summarise(make_batch(1, inputs=inputs), contract).map("jet")
    assert cells.sum() == cells[-1, -1] == 1


def test_pairs_count_the_events_in_which_both_inputs_are_marked(make_batch, contract):
    batch = make_batch(700)
    summary = summarise(batch, contract)
    marked = {
        # the geometric middle of 0..2047 and 0..511, whoever else is there, the middle of a range
        "jet[1].pt": batch.inputs[:, contract.input_index("jet[1].pt")] >= 46,
        "egamma[0].pt": batch.inputs[:, contract.input_index("egamma[0].pt")] >= 23,
        "jet[2].pt": batch.inputs[:, contract.input_index("jet[2].pt")] > 0,
        "jet[0].eta": batch.inputs[:, contract.input_index("jet[0].eta")] > 0,
        "muon[1].phi": batch.inputs[:, contract.input_index("muon[1].phi")] > 287,
    }
    first, second = summary.layout.pair_places
    pairs = dict(zip(zip(first.tolist(), second.tolist(), strict=True), summary.pairs.tolist(), strict=True))
    for (name, one), (other, two) in itertools.product(marked.items(), repeat=2):
        place = tuple(sorted((contract.input_index(name), contract.input_index(other))))
        if name.rpartition(".")[2] == other.rpartition(".")[2]:
            assert pairs[place] == np.count_nonzero(one & two) > 0
        else:
            assert place not in pairs
    assert len(pairs) == summary.layout.n_pairs == 3 * 19 * 20 // 2
    assert summary.n_paired == 700


def test_wide_contracts_and_empty_batches_have_no_pairs(make_batch, contract):
    empty = summarise(make_batch(0), contract)
    assert (empty.n_paired, empty.pairs.size) == (0, 0)
    names = tuple(f"x[{index}].pt" for index in range(MAX_PAIRED_INPUTS + 1))
    wide = Layout(names, (0,) * len(names), (1,) * len(names), ())
    assert wide.n_pairs == 0
    assert Layout(names[1:], (0,) * 128, (1,) * 128, ()).n_pairs == 128 * 129 // 2
    with pytest.raises(SummaryError, match="counts of pairs"):
        dataclasses.replace(empty, n_paired=1)


@given(st.lists(SCORES, min_size=1, max_size=50))
def test_score_bins_bracket_their_scores(scores):
    array = np.array(scores, dtype=np.int32)
    bins, edges = score_bins(array), score_bin_edges()
    assert len(edges) == N_SCORE_BINS
    for score, one in zip(scores, bins.tolist(), strict=True):
        if score < 0:
            assert one == 0
        else:
            low, high = edges[one - 1], edges[one]
            assert low <= score < high
            assert high - low <= max(1, score / 128)


def test_score_bins_cover_every_positive_score_without_a_gap():
    edges = score_bin_edges()
    assert edges[0] == 0
    assert edges[-1] == 2**31
    assert (np.diff(edges) > 0).all()


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 2))
def test_merging_is_associative_and_commutative(parts, order, split):
    whole = merge_all(parts)
    a = [parts[index] for index in order]
    grouped = merge(merge_all(a[: split + 1]), merge_all(a[split + 1 :]))
    assert same(grouped, whole)
    assert whole.n_events == sum(part.n_events for part in parts)
    assert whole.batch is None


def test_merging_equals_counting_together(make_batch, contract):
    first, second = make_batch(70, 1), make_batch(90, 2)
    counted = fill(
        np.concatenate([first.inputs, second.inputs]), np.concatenate([first.score, second.score]), contract
    )
    merged = merge(summarise(first, contract), summarise(second, contract))
    for name in ("inputs", "score", "maps", "pairs"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(counted, name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "other"}, "model"),
        ({"run": 2}, "run"),
        ({"lumisection": 8}, "lumisection"),
        ({"package": "cd" * 32}, "package"),
    ],
)
def test_summaries_of_two_windows_do_not_merge(make_batch, contract, change, said):
    with pytest.raises(SummaryError, match=f"differ in {said}"):
        merge(summarise(make_batch(), contract), summarise(make_batch(**change), contract))


def test_one_message_does_not_count_twice(parts):
    with pytest.raises(SummaryError, match="batch 1 of 'replay' is in both"):
        merge(parts[1], dataclasses.replace(parts[1], batch=BatchId("replay", 1, 99)))


def test_a_batch_of_another_contract_is_refused(make_batch, contract_path):
    other = parse_contract(contract_path.read_text().replace("version = 1", "version = 2"))
    with pytest.raises(SummaryError, match="use its own"):
        summarise(make_batch(), other)


def test_one_simulated_part_marks_the_whole(make_batch, contract):
    real = summarise(make_batch(simulated=False), contract)
    assert not merge(real, real).simulated
    assert merge(real, summarise(make_batch(simulated=True), contract)).simulated


@settings(max_examples=25, deadline=None)
@given(n_events=st.integers(0, 300), seed=st.integers(0, 2**32 - 1))
def test_bytes_keep_everything(make_batch, contract, n_events, seed):
    rng = np.random.default_rng(seed)
    batch = make_batch(
        n_events,
        inputs=rng.integers(-(2**15), 2**15, (n_events, contract.n_inputs)).astype(np.int16),
        score=rng.integers(-(2**31), 2**31, n_events).astype(np.int32),
    )
    n_checked = min(7, n_events)
    summary = dataclasses.replace(
        summarise(batch, contract, seed), n_checked=n_checked, n_mismatched=min(1, n_checked)
    )
    back = decode_summary(encode_summary(summary))
    assert back.key == summary.key
    assert back.layout == summary.layout
    assert back.batch == summary.batch == BatchId("replay", 3, seed)
    assert (back.n_checked, back.n_mismatched) == (summary.n_checked, summary.n_mismatched)
    assert (back.n_events, back.n_accept, back.simulated) == (summary.n_events, summary.n_accept, True)
    assert back.n_paired == n_events
    for name in ("inputs", "score", "maps", "pairs"):
        np.testing.assert_array_equal(getattr(back, name), getattr(summary, name))
    assert same(back, summary)


ZSTD = pa.Codec("zstd")


def packed(data):
    return MAGIC + struct.pack("<I", len(data)) + ZSTD.compress(data, asbytes=True)


def split(payload):
    """Return header and body, as someone reads them who has only the description of the format."""
    (unpacked,) = struct.unpack_from("<I", payload, 6)
    data = ZSTD.decompress(payload[10:], unpacked, asbytes=True)
    length = struct.unpack_from("<I", data)[0]
    return json.loads(data[4 : 4 + length]), data[4 + length :]


def rewrite(payload, change):
    header, body = change(*split(payload))
    text = json.dumps(header).encode()
    return packed(struct.pack("<I", len(text)) + text + body)


def with_section(header, gaps, counts):
    """Replace the section of pairs, which is the last one."""
    return header | {
        "filled": [*header["filled"][:3], len(counts)],
        "widths": [*header["widths"][:3], [4, 8]],
    }, planes(gaps, 4) + planes(counts, 8)


def planes(numbers, width):
    return b"".join(bytes((number >> (8 * plane)) & 255 for number in numbers) for plane in range(width))


def without_pairs(header, body):
    filled, widths = header["filled"], header["widths"]
    return body[: sum(n * sum(w) for n, w in zip(filled[:3], widths[:3], strict=True))]


def other_pairs(gaps, counts):
    def change(header, body):
        changed, section = with_section(header, gaps, counts)
        return changed, without_pairs(header, body) + section

    return change


def test_a_reader_of_the_description_finds_every_count(parts):
    header, body = split(encode_summary(parts[1]))
    begin = 0
    for name, filled, widths in zip(
        ("inputs", "score", "maps", "pairs"), header["filled"], header["widths"], strict=True
    ):
        numbers = []
        for width in widths:
            numbers.append(
                [
                    sum(body[begin + plane * filled + index] << (8 * plane) for plane in range(width))
                    for index in range(filled)
                ]
            )
            begin += filled * width
        found, position = {}, -1
        for gap, count in zip(*numbers, strict=True):
            position += gap + 1
            found[position] = count
        counts = getattr(parts[1], name)
        assert found == {int(index): int(counts[index]) for index in np.flatnonzero(counts)}
    assert begin == len(body)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h, b: (h | {"n_events": h["n_events"] + 1}, b), "do not add up"),
        (lambda h, b: (h | {"n_events": 10**30}, b), "n_events"),
        (lambda h, b: (h | {"n_accept": 10**6}, b), "larger than its whole"),
        (lambda h, b: (h | {"n_checked": 5, "n_mismatched": 6}, b), "larger than its whole"),
        (
            lambda h, b: (
                h | {"own_totals": True, "n_paired": 0, "filled": [*h["filled"][:3], 0]},
                without_pairs(h, b),
            ),
            "has scores",
        ),
        (lambda h, b: (h | {"own_totals": True}, b), "out of range"),
        (lambda h, b: (h | {"n_paired": h["n_events"] - 1}, b), "share than can be"),
        (lambda h, b: (h | {"n_paired": h["n_events"] + 1}, b), "more than all"),
        (lambda h, b: (h | {"extra": 1}, b), "extra"),
        (lambda h, b: (h | {"filled": [2_000_000, 0, 0, 0]}, b), "its header says"),
        (lambda h, b: (h | {"filled": [2**31 - 1, 0, 0, 0]}, b), "filled"),
        (lambda h, b: (h | {"widths": [[3, 1], [1, 1], [1, 1], [1, 1]]}, b), "widths"),
        (lambda h, b: (h | {"maximums": [2**15 - 1] * 4096, "minimums": [0] * 4096}, b), "differ in number"),
        (lambda h, b: (h | {"minimums": [2**14] * len(h["minimums"])}, b), "minimum lies above"),
        (
            lambda h, b: (
                h
                | {
                    "input_names": ["x"] * 4096,
                    "minimums": [-(2**15)] * 4096,
                    "maximums": [2**15 - 1] * 4096,
                },
                b,
            ),
            "bins exceeds",
        ),
        (lambda h, b: (h | {"batch": ["replay", -1, 0]}, b), "batch"),
        (lambda h, b: (h | {"maps": [["jet", [0, 1, 10**9], [0, 1, 1]]]}, b), "maps"),
        (lambda h, b: (h, b[:-12]), "its header says"),
        (lambda h, b: (h, b"\xff" * len(b)), "out of range"),
        (other_pairs([2**32 - 1] * 9, [1] * 9), "out of range"),
        (other_pairs([0, 0], [1, 0]), "zero or absurd"),
        (other_pairs([0], [2**53]), "zero or absurd"),
        (other_pairs([0], [2**64 - 1]), "zero or absurd"),
    ],
)
def test_bytes_that_contradict_themselves_are_refused(parts, change, reason):
    with pytest.raises(MalformedMessage, match=reason):
        decode_summary(rewrite(encode_summary(parts[0]), change))


def older(summary, magic, change):
    """Write a summary as lumiwatch did before: 32-bit indices and 64-bit counts, through zlib."""
    header, _ = split(encode_summary(summary))
    del header["widths"], header["n_paired"], header["filled"][3:]
    text = json.dumps(change(header)).encode()
    parts = [struct.pack("<I", len(text)), text]
    for counts in (summary.inputs, summary.score, summary.maps):
        bins = np.flatnonzero(counts)
        parts += [bins.astype("<u4").tobytes(), counts[bins].astype("<i8").tobytes()]
    return magic + zlib.compress(b"".join(parts))


def offsets_instead(header):
    for name in ("batch", "n_checked", "n_mismatched", "own_totals"):
        del header[name]
    return header | {"sources": [["lumiwatch.batches", 0, 17]]}


def unpaired(summary):
    return dataclasses.replace(summary, n_paired=0, pairs=summary.pairs[:0])


def test_windows_and_references_stored_by_older_versions_are_read(parts):
    first = decode_summary(older(parts[0], b"LWSUM1", offsets_instead))
    assert same(first, dataclasses.replace(unpaired(parts[0]), batch=None))
    second = decode_summary(older(parts[0], b"LWSUM2", lambda header: header))
    assert same(second, unpaired(parts[0]))


def test_a_window_that_an_older_version_began_keeps_the_pairs_of_later_batches(parts):
    # given a window counted by an older lumiwatch
    window = decode_summary(older(parts[0], b"LWSUM2", lambda header: header))
    # when batches with pairs are added, in either order
    first, second = merge(window, parts[1]), merge(parts[1], window)
    # then it holds theirs, and says of how many events
    assert first.n_events == parts[0].n_events + parts[1].n_events
    assert first.n_paired == second.n_paired == parts[1].n_events
    np.testing.assert_array_equal(first.pairs, parts[1].pairs)
    assert same(decode_summary(encode_summary(first)), second)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h | {"filled": [1, 2]}, "filled"),
        (lambda h: h | {"filled": [10**12, 0, 0]}, "filled"),
        (lambda h: h | {"filled": [1, 0, 0]}, "its header says"),
        (lambda h: [h], "no object"),
        (lambda h: h | {"n_events": h["n_events"] + 1}, "do not add up"),
    ],
)
def test_older_bytes_that_contradict_themselves_are_refused(parts, change, reason):
    with pytest.raises(MalformedMessage, match=reason):
        decode_summary(older(parts[0], b"LWSUM2", change))


@pytest.mark.parametrize("bins", [[3, 3], [4, 3]])
def test_older_bytes_with_bins_out_of_order_are_refused(bins):
    text = json.dumps({"filled": [2, 0, 0]}).encode()
    body = np.array(bins, "<u4").tobytes() + np.array([1, 1], "<i8").tobytes()
    data = struct.pack("<I", len(text)) + text + body
    with pytest.raises(MalformedMessage, match="out of order"):
        decode_summary(b"LWSUM2" + zlib.compress(data))


def test_a_summary_of_a_later_version_is_refused_by_its_version():
    with pytest.raises(MalformedMessage, match="version 4 is newer"):
        decode_summary(b"LWSUM4" + bytes(50))


def test_histograms_filled_elsewhere_have_totals_of_their_own(parts):
    layout = dataclasses.replace(parts[0].layout, own_totals=True)
    inputs = parts[0].inputs.copy()
    inputs[5] += 3
    filled = dataclasses.replace(
        unpaired(parts[0]), layout=layout, inputs=inputs, score=np.zeros_like(parts[0].score)
    )
    assert same(decode_summary(encode_summary(filled)), filled)
    mixed = dataclasses.replace(parts[0], inputs=inputs)
    with pytest.raises(MalformedMessage, match="do not add up"):
        decode_summary(encode_summary(mixed))


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        MAGIC,
        MAGIC + b"x" * 50,
        b"PK\x03\x04",
        MAGIC + bytes(3),
        packed(b""),
        packed(b"\xff" * 9),
        b"LWSUM2" + zlib.compress(b"\xff" * 9),
        b"LWSUM2junk",
    ],
)
def test_foreign_bytes_are_refused(foreign):
    with pytest.raises(MalformedMessage):
        decode_summary(foreign)


def test_a_bomb_is_not_unpacked():
    content = bytes(40_000_000)
    with pytest.raises(MalformedMessage, match="cut short, too long"):
        decode_summary(b"LWSUM2" + zlib.compress(content))
    with pytest.raises(MalformedMessage, match="40000000 unpacked bytes"):
        decode_summary(packed(content))
    lying = MAGIC + struct.pack("<I", 1000) + ZSTD.compress(content, asbytes=True)
    with pytest.raises(MalformedMessage, match="cannot be unpacked"):
        decode_summary(lying)


def test_every_truncation_is_refused(parts):
    payload = encode_summary(parts[0])
    for length in range(0, len(payload) - 1, 101):
        with pytest.raises(MalformedMessage):
            decode_summary(payload[:length])
    with pytest.raises(MalformedMessage):
        decode_summary(payload + b"more")
