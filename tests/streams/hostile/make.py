"""Makes the hostile messages of this folder anew: ``python tests/streams/hostile/make.py``.

Each file is a message, byte for byte, and stands in ``index.toml`` with a part of the reason for which it
must be refused. A name that ends in ``.gz`` is a message that is packed here only to keep it small.
"""

import gzip
import json
import struct
import sys
import zlib
from pathlib import Path

import pyarrow as pa

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parents[2])]

import arrow_surgery as surgery  # noqa: E402 - the folder is no package

from streams.contracts.contract import load_contract  # noqa: E402 - as above

N = 20
PACKABLE = 16 * 1024
CONTRACT = load_contract(FOLDER / "contract.toml")
NAMES = ("jet[0].pt", "jet[1].pt")
METADATA = {
    "version": "1",
    "model": "small",
    "contract": "small",
    "contract_version": "2",
    "contract_hash": CONTRACT.hash,
    "run": "9",
    "lumisection": "1",
    "source": "hostile",
    "sequence": "0",
    "package": "ab" * 32,
    "simulated": "true",
}
CONDITIONS = {"version": 1, "model": "small", "run": 9, "lumisection": 1, "pileup": 50.0}
COLUMNS = [
    *((name, pa.array(range(N), pa.int16())) for name in NAMES),
    ("score", pa.array(range(N), pa.int32())),
    ("accept", pa.array([True, False] * (N // 2))),
]
FOREIGN = {
    "empty": b"",
    "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(64)),
    "pickle": b"\x80\x04cos\nsystem\n(X\x04\x00\x00\x00trueR.",
    "gzip_bomb": gzip.compress(bytes(16 << 20), mtime=0),
    "zeros_8_mib": bytes(8 << 20),
    "beyond_the_bound": bytes((8 << 20) + 1),
    "ones": b"\xff" * 4096,
    "utf16": '{"version": 1}'.encode("utf-16"),
    "arrow_file": b"ARROW1\0\0" + bytes(64),
}


def batch(columns=COLUMNS, metadata=(), *, without=(), copies=1, options=None):
    """Write a batch; `metadata` replaces or adds keys, given without their prefix or as pairs of bytes."""
    merged = {k: v for k, v in {**METADATA, **dict(metadata)}.items() if k not in without}
    pairs = [("lumiwatch." + k if isinstance(k, str) else k, v) for k, v in merged.items()]
    schema = pa.schema([pa.field(n, c.type) for n, c in columns], metadata=pa.KeyValueMetadata(pairs))
    return stream(columns, schema, copies, options)


def stream(columns, schema, copies=1, options=None):
    """Write an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for _ in range(copies):
            writer.write_batch(pa.record_batch([c for _, c in columns], schema=schema))
    return sink.getvalue().to_pybytes()


def twice(key):
    """Write a batch whose metadata holds a key two times."""
    pairs = [("lumiwatch." + k, v) for k, v in METADATA.items()] + [("lumiwatch." + key, METADATA[key])]
    schema = pa.schema([pa.field(n, c.type) for n, c in COLUMNS], metadata=pa.KeyValueMetadata(pairs))
    return stream(COLUMNS, schema)


def replaced(position, name=None, array=None):
    """Return the columns with another name or content in one place."""
    columns = list(COLUMNS)
    columns[position] = (name or columns[position][0], columns[position][1] if array is None else array)
    return columns


def batches():
    """Yield name, message and part of the reason."""
    good = batch()
    yield from ((name, content, "batch") for name, content in FOREIGN.items())
    schema_only = len(surgery.join(surgery.split(good)[:1])) - 8
    for name, length in {
        "in_the_first_word": 3,
        "after_the_marker": 4,
        "in_the_schema": schema_only // 2,
        "in_the_record_batch_header": schema_only + 40,
        "in_the_body": len(good) - 60,
    }.items():
        yield f"cut_{name}", good[:length], "no Arrow"
    yield "cut_after_the_schema", good[:schema_only], "0 record batches"
    yield "swapped_columns", batch([COLUMNS[1], COLUMNS[0], *COLUMNS[2:]]), "column 0 is 'jet[1].pt'"
    yield "missing_column", batch(COLUMNS[1:]), "3 columns"
    yield "extra_column", batch([*COLUMNS, ("more", COLUMNS[0][1])]), "5 columns"
    yield "no_column", batch([]), "0 columns"
    yield "many_columns", batch([(f"c{i}", COLUMNS[0][1]) for i in range(5000)]), "5000 columns"
    for kind in (
        pa.int32(),
        pa.uint16(),
        pa.float32(),
        pa.float16(),
        pa.string(),
        pa.int8(),
        pa.duration("s"),
    ):
        array = pa.array([None] * N, kind)
        yield (
            f"column_of_{str(kind).replace('[', '_').rstrip(']')}",
            batch(replaced(0, array=array)),
            f"column 0 is 'jet[0].pt' {kind}",
        )
    nan = pa.array([float("nan")] * N, pa.float64())
    yield "column_of_nan", batch(replaced(1, array=nan)), "column 1 is 'jet[1].pt' double"
    yield "score_of_int64", batch(replaced(2, array=pa.array([2**40] * N))), "column 2 is 'score' int64"
    yield (
        "accept_of_int8",
        batch(replaced(3, array=pa.array([1] * N, pa.int8()))),
        "column 3 is 'accept' int8",
    )
    nested = pa.array([None] * N, pa.int16())
    for _ in range(40):
        nested = pa.StructArray.from_arrays([nested], ["s"])
    yield "column_of_nested_structs", batch(replaced(0, array=nested)), "column 0"
    yield "column_of_lists", batch(replaced(0, array=pa.array([[1]] * N))), "column 0"
    coded = COLUMNS[0][1].dictionary_encode()
    yield "column_of_a_dictionary", batch(replaced(0, array=coded)), "column 0"
    yield "nulls", batch(replaced(0, array=pa.array([None, *range(N - 1)], pa.int16()))), "missing values"
    yield "nulls_in_accept", batch(replaced(3, array=pa.array([None] * N, pa.bool_()))), "missing values"
    yield "two_record_batches", batch(copies=2), "2 record batches"
    yield "no_record_batch", batch(copies=0), "0 record batches"
    yield "two_schemas", surgery.join([surgery.split(good)[0]] * 2), "type 'schema'"
    yield "record_batch_first", surgery.join(surgery.split(good)[1:]), "batch is no Arrow stream"
    dictionary = surgery.split(batch(replaced(0, array=coded)))[1]
    yield "dictionary_batch", surgery.join([surgery.split(good)[0], dictionary]), "type 'dictionary'"
    many = [(n, pa.array([False] * 65_537).cast(c.type)) for n, c in COLUMNS]
    yield "too_many_events", batch(many), "65537 events"
    for codec in ("lz4", "zstd"):
        options = pa.ipc.IpcWriteOptions(compression=codec)
        yield f"compressed_{codec}", batch(options=options), "compression"
        zeros = [(n, pa.array([False] * 4_000_000).cast(c.type)) for n, c in COLUMNS]
        yield f"compression_bomb_{codec}", batch(zeros, options=options), "compression"
    yield "big_endian", surgery.big_endian(good), "big-endian"
    yield from lying_headers(good)
    yield from bad_metadata()


def lying_headers(good):
    """Yield record batches that declare what they do not hold."""
    for value in (-1, 2**62, 2**31, 2**63 - 1, N + 8):
        yield (
            f"rows_{value}".replace("-", "minus_"),
            surgery.patched(good, 1, surgery.set_length(value)),
            "did not match",
        )
    for value in (-1, 2**62, N + 1):
        change = surgery.set_node(0, 0, value)
        yield (
            f"column_length_{value}".replace("-", "minus_"),
            surgery.patched(good, 1, change),
            "did not match",
        )
    for value in (-(2**40), 2**62, 3):
        change = surgery.set_node(1, 1, value)
        yield f"null_count_{value}".replace("-", "minus_"), surgery.patched(good, 1, change), "too small"
    for at, name in ((0, "offset"), (1, "length")):
        for value in (-8, 2**62, 4096):
            change = surgery.set_buffer(1, at, value)
            yield (
                f"buffer_{name}_{value}".replace("-", "minus_"),
                surgery.patched(good, 1, change),
                "cannot be read",
            )
    yield "buffer_length_0", surgery.patched(good, 1, surgery.set_buffer(1, 1, 0)), "too small"
    for index, name in ((1, "nodes"), (2, "buffers")):
        for value in (0, 1, 2**31 - 1):
            yield f"{value}_{name}", surgery.patched(good, 1, surgery.set_count(index, value)), "batch"
    for value in (-1, 2**62, 0):
        change = surgery.set_body_length(value)
        yield f"body_length_{value}".replace("-", "minus_"), surgery.patched(good, 1, change), "no Arrow"
    yield "metadata_length_2_gib", struct.pack("<Ii", surgery.CONTINUATION, 2**31 - 1) + good[8:], "no Arrow"
    yield "metadata_length_negative", struct.pack("<Ii", surgery.CONTINUATION, -5) + good[8:], "no Arrow"


def bad_metadata():
    """Yield batches whose schema says what no batch says."""
    yield (
        "newer_version",
        batch(metadata={"version": "3"}),
        "batch version 3 is newer than this worker reads (up to 1): update the worker",
    )
    yield "version_0", batch(metadata={"version": "0"}), "batch version 0 does not exist"
    yield "version_of_many_digits", batch(metadata={"version": "9" * 5000}), "metadata version"
    yield (
        "another_contract_version",
        batch(metadata={"contract_version": "3", "contract_hash": "0" * 64}),
        "version 3 (000000000000), this worker has 'small' version 2",
    )
    yield "another_model", batch(metadata={"model": "stranger"}), "unknown model 'stranger'"
    for key in METADATA:
        yield f"without_{key}", batch(without=(key,)), key
        yield f"{key}_of_1_mb", batch(metadata={key: "x" * 1_000_000}), key
        yield f"{key}_with_nul", batch(metadata={key: "1\0"}), key
    names = {" 1": "of_a_blank_and_1", "9" * 5000: "of_5000_digits", "٣": "of_arabic_digits", "+1": "plus_1"}
    for value in ("-1", "1.5", "1e3", " 1", "0x10", "9" * 5000, "2147483648", "٣", "+1"):
        yield f"run_{names.get(value, value)}", batch(metadata={"run": value}), "give "
    yield "sequence_beyond_2_53", batch(metadata={"sequence": str(2**53 + 1)}), "sequence"
    yield "simulated_maybe", batch(metadata={"simulated": "True"}), "simulated"
    yield "key_twice", twice("source"), "twice"
    yield "unknown_key", batch(metadata={"colour": "red"}), "'lumiwatch.colour' is unknown"
    yield "key_not_utf8", batch(metadata={b"lumiwatch.\xff": b"1"}), "UTF-8"
    yield "value_not_utf8", batch(metadata={"source": b"\xff\xfe"}), "UTF-8"
    yield "value_of_surrogates", batch(metadata={"source": b"\xed\xa0\x80"}), "UTF-8"
    yield "escape_sequence", batch(metadata={"source": "\x1b[2J"}), "source"
    yield "many_keys", batch(metadata={f"k{i}": "" for i in range(20_000)}), "unknown"
    yield "column_name_not_utf8", batch().replace(b"jet[0].pt", b"jet\xff0].pt"), "UTF-8"


def conditions():
    """Yield name, message and part of the reason."""
    yield from ((name, content, "conditions") for name, content in FOREIGN.items())

    def changed(**fields):
        return json.dumps(CONDITIONS | fields).encode()

    def raw(text):
        return b'{"version": 1, "model": "small", "run": 9, "lumisection": 1, "pileup": ' + text + b"}"

    yield (
        "newer_version",
        changed(version=3, key_of_the_future=[1]),
        "conditions version 3 is newer than this worker reads (up to 1): update the worker",
    )
    yield "version_true", changed(version=True), "version"
    yield "version_text", changed(version="1"), "version"
    yield "version_0", changed(version=0), "version 0 does not exist"
    yield "another_model", changed(model="stranger"), "unknown model 'stranger'"
    for name, text in {
        "nan": b"NaN", "infinity": b"Infinity", "1e999": b"1e999", "minus_1": b"-1", "absurd": b"1001",
        "5000_digits": b"9" * 5000, "null": b"null", "text": b'"50"', "true": b"true", "list": b"[50]",
    }.items():  # fmt: skip
        yield f"pileup_{name}", raw(text), "pileup" if name != "5000_digits" else "Invalid JSON"
    yield "luminosity_nan", changed(luminosity_hz_cm2=float("nan")), "luminosity_hz_cm2"
    yield "luminosity_negative", changed(luminosity_hz_cm2=-1.0), "luminosity_hz_cm2"
    yield "run_5000_digits", json.dumps(CONDITIONS).replace("9", "9" * 5000, 1).encode(), "Invalid JSON"
    yield "run_negative", changed(run=-1), "run"
    yield "run_text", changed(run="9"), "run"
    yield "run_fraction", changed(run=9.5), "run"
    yield "run_beyond", changed(run=2**31), "run"
    yield "lumisection_missing", json.dumps({"model": "small", "run": 9, "pileup": 1}).encode(), "lumisection"
    yield "unknown_key", changed(colour="red"), "colour"
    yield "misspelt_key", changed(expcted={"a": 1}), "expcted"
    yield "expected_negative", changed(expected={"replay": -1}), "expected"
    yield "expected_list", changed(expected=["replay"]), "expected"
    yield "expected_empty_source", changed(expected={"": 1}), "expected"
    yield "expected_source_newline", changed(expected={"a\nb": 1}), "expected.a?b"
    yield "expected_many", changed(expected={f"s{i}": 1 for i in range(1025)}), "expected"
    for name, text in {
        "nan": b'{"bunches": NaN}', "1e999": b'{"bunches": 1e999}', "absurd": b'{"bunches": -1e300}',
        "null": b'{"bunches": null}', "text": b'{"bunches": "2400"}', "true": b'{"bunches": true}',
        "list": b"[2400]", "nested": b'{"bunches": {"bunches": 1}}',
    }.items():  # fmt: skip
        yield f"values_{name}", changed(values=0).replace(b"0}", text + b"}"), "values"
    yield "values_many", changed(values={f"v{i}": 1 for i in range(17)}), "values"
    yield "values_name_long", changed(values={"v" * 33: 1}), "values"
    yield "values_name_empty", changed(values={"": 1}), "values"
    yield "values_name_script", changed(values={"<script>": 1}), "values"
    yield "values_name_newline", changed(values={"bunches\n": 1}), "values"
    yield "subsystems_many", changed(subsystems=["x"] * 257), "subsystems"
    yield "text_of_1_kb", changed(beam_mode="x" * 1000), "beam_mode"
    yield "text_of_1_mb", changed(beam_mode="x" * 1_000_000), "exceed"
    yield "nul", changed(beam_mode="a\0b"), "printable"
    yield "escape_sequence", changed(model="\x1b[2J"), "printable"
    yield "lone_surrogate", changed(beam_mode="\ud800"), "Invalid JSON"
    yield (
        "surrogate_bytes",
        json.dumps(CONDITIONS).replace("small", "sm\ud800ll").encode("utf-8", "surrogatepass"),
        "Invalid JSON",
    )
    yield "latin1", json.dumps(CONDITIONS).replace("small", "é").encode("latin-1"), "Invalid JSON"
    yield "deep_lists", b"[" * 30_000, "Invalid JSON"
    yield "deep_objects", b'{"a":' * 10_000, "Invalid JSON"
    yield (
        "deep_in_a_key",
        changed(expected=0).replace(b"0}", b"[" * 20_000 + b"]" * 20_000 + b"}"),
        "Invalid JSON",
    )
    yield "cut", changed()[:-3], "Invalid JSON"
    yield "followed_by_more", changed() + b"{}", "Invalid JSON"
    yield "byte_order_mark", b"\xef\xbb\xbf" + changed(), "Invalid JSON"
    yield "array", b"[" + changed() + b"]", "conditions"


def summary(header=(), body=None, *, magic=b"LWSUM3", length=None, text=None, level=1):
    """Write a summary of two events; `header` replaces or adds keys."""
    fields = {
        "model": "small", "contract_hash": CONTRACT.hash, "run": 9, "lumisection": 1, "package": "ab" * 32,
        "batch": ["hostile", 0, 1], "simulated": True, "n_events": 2, "n_accept": 1, "n_checked": 0,
        "n_mismatched": 0, "own_totals": False, "input_names": list(NAMES), "minimums": [0, 0],
        "maximums": [255, 255], "maps": [], "n_paired": 0, "filled": [2, 1, 0, 0],
        "widths": [[2, 1], [1, 1], [1, 1], [1, 1]],
    }  # fmt: skip
    if text is None:
        text = json.dumps({**fields, **dict(header)}).encode()
    if body is None:
        body = input_counts((1, 2), (262, 2)) + bytes([3, 2])
    data = struct.pack("<I", len(text)) + text + body
    packed = pa.Codec("zstd", compression_level=level).compress(data, asbytes=True)
    return magic + struct.pack("<I", len(data) if length is None else length) + packed


def input_counts(*bins):
    """Write bins as (index, count), two bytes for a gap and one for a count."""
    last, gaps = -1, []
    for index, _ in bins:
        gaps.append(index - last - 1)
        last = index
    numbers = struct.pack(f"<{len(gaps)}H", *gaps)
    return numbers[::2] + numbers[1::2] + bytes(count for _, count in bins)


def older(version, header=(), counts=((1, 2), (262, 2), (3, 2))):
    """Write a summary of an older format."""
    fields = {
        "model": "small", "contract_hash": CONTRACT.hash, "run": 9, "lumisection": 1, "package": "ab" * 32,
        "simulated": True, "n_events": 2, "n_accept": 1, "input_names": list(NAMES), "minimums": [0, 0],
        "maximums": [255, 255], "maps": [], "filled": [2, 1, 0],
    }  # fmt: skip
    later = {"batch": ["hostile", 0, 1], "n_checked": 0, "n_mismatched": 0, "own_totals": False}
    fields |= later if version == 2 else {"sources": [["lumiwatch.batches", 0, 1]]}
    text = json.dumps({**fields, **dict(header)}).encode()
    body = b"".join(
        struct.pack(f"<{len(part)}I", *(i for i, _ in part))
        + struct.pack(f"<{len(part)}q", *(c for _, c in part))
        for part in (counts[:2], counts[2:])
    )
    return b"LWSUM%d" % version + zlib.compress(struct.pack("<I", len(text)) + text + body)


def summaries():
    """Yield name, message and part of the reason."""
    yield from ((name, content, "summary") for name, content in FOREIGN.items())
    good = summary()
    yield (
        "newer_version",
        summary(magic=b"LWSUM4"),
        "summary version 4 is newer than this worker reads (up to 3): update the worker",
    )
    yield "version_0", summary(magic=b"LWSUM0"), "version 0 does not exist"
    yield "version_of_letters", summary(magic=b"LWSUMX"), "begins with"
    for name, length in {"magic": 4, "length": 8, "nothing_packed": 10, "frame": len(good) // 2}.items():
        yield f"cut_in_{name}", good[:length], "summary"
    yield "followed_by_more", good + b"more", "unpacked"
    yield "unpacked_length_4_gib", summary(length=2**32 - 1), "exceeds"
    yield "unpacked_length_too_large", summary(length=10_000), "unpacked"
    yield "unpacked_length_too_small", summary(length=10), "unpacked"
    yield "unpacked_length_0", summary(length=0), "summary"
    yield "zstd_bomb", summary(body=bytes(256 << 20), length=2**31, level=19), "exceeds"
    yield "zstd_bomb_that_lies", summary(body=bytes(256 << 20), length=4096, level=19), "unpacked"
    yield "zlib_bomb", b"LWSUM2" + zlib.compress(bytes(256 << 20), 9), "too long"
    yield "zlib_bomb_of_version_1", b"LWSUM1" + zlib.compress(bytes(256 << 20), 9), "too long"
    yield "zlib_junk", b"LWSUM2junk", "unpacked"
    yield "no_header", summary(text=b"", body=b""), "no header"
    yield (
        "header_longer_than_all",
        summary(text=b"{}").replace(b"\x02\0\0\0{}", b"\xff\xff\xff\x7f{}"),
        "summary",
    )
    yield "header_deep", summary(text=b"[" * 100_000), "header"
    yield (
        "header_deep_of_version_2",
        b"LWSUM2" + zlib.compress(struct.pack("<I", 100_000) + b"[" * 100_000),
        "header",
    )
    yield "header_array", summary(text=b"[]"), "header"
    yield "header_not_utf8", summary(text=b'{"model": "\xff"}'), "header"
    yield "header_digits", summary(text=b'{"run": ' + b"9" * 5000 + b"}"), "header"
    yield (
        "header_digits_of_version_2",
        b"LWSUM2" + zlib.compress(struct.pack("<I", 5009) + b'{"run": ' + b"9" * 5000 + b"}"),
        "header",
    )
    yield "header_empty_of_version_1", b"LWSUM1" + zlib.compress(b"\x02\0\0\0{}"), "header"
    for name, fields, reason in (
        ("unknown_key", {"colour": 1}, "colour"),
        ("run_negative", {"run": -1}, "run"),
        ("run_text", {"run": "9"}, "run"),
        ("n_events_negative", {"n_events": -2}, "n_events"),
        ("n_events_lie", {"n_events": 3}, "do not add up"),
        ("n_events_absurd", {"n_events": 2**60}, "n_events"),
        ("more_accepted_than_events", {"n_accept": 3}, "larger than its whole"),
        ("more_mismatched_than_checked", {"n_checked": 1, "n_mismatched": 2}, "larger than its whole"),
        ("more_checked_than_events", {"n_checked": 3}, "larger than its whole"),
        ("digest_beyond", {"batch": ["hostile", 0, 2**32]}, "batch"),
        ("sequence_negative", {"batch": ["hostile", -1, 0]}, "batch"),
        ("source_empty", {"batch": ["", 0, 0]}, "batch"),
        ("source_with_nul", {"batch": ["a\0b", 0, 0]}, "printable"),
        ("package_with_nul", {"package": "a\0b"}, "printable"),
        ("package_of_1_mb", {"package": "x" * 1_000_000}, "package"),
        ("lone_surrogate", {"package": "\ud800"}, "header"),
        ("names_differ_in_number", {"input_names": ["a"]}, "differ in number"),
        ("minimum_above_maximum", {"minimums": [0, 300]}, "above its maximum"),
        ("code_beyond_16_bits", {"maximums": [255, 40_000]}, "maximums"),
        ("absurdly_many_bins", {
            "input_names": ["x"] * 4096, "minimums": [-(2**15)] * 4096, "maximums": [2**15 - 1] * 4096,
        }, "bins exceeds"),
        ("map_of_no_width", {"maps": [["jet", [0, 0, 1], [0, 1, 1]]]}, "maps"),
        ("filled_beyond_the_body", {"filled": [2_000_000, 1, 0, 0]}, "summary body"),
        ("filled_negative", {"filled": [-1, 1, 0, 0]}, "filled"),
        ("filled_of_two", {"filled": [2, 1]}, "filled"),
        ("width_3", {"widths": [[3, 1], [1, 1], [1, 1], [1, 1]]}, "widths"),
        ("more_paired_than_events", {"n_paired": 3}, "paired events are more"),
        ("n_paired_negative", {"n_paired": -1}, "n_paired"),
        ("n_paired_absurd", {"n_paired": 2**60}, "n_paired"),
        ("own_totals_with_scores", {"own_totals": True}, "it can have none"),
        ("another_contract", {"contract_hash": "0" * 64}, "summary under contract 000000000000"),
        ("another_model", {"model": "stranger"}, "unknown model 'stranger'"),
        ("without_a_batch", {"batch": None}, "names no batch"),
    ):  # fmt: skip
        yield name, summary(fields), reason
    yield "bin_out_of_range", summary(body=input_counts((1, 2), (60_000, 2)) + bytes([3, 2])), "out of range"
    yield "count_of_zero", summary(body=input_counts((1, 2), (262, 0)) + bytes([3, 2])), "zero"
    yield "totals_lie", summary(body=input_counts((1, 2), (262, 1)) + bytes([3, 2])), "do not add up"
    yield "totals_in_one_input", summary(body=input_counts((1, 2), (2, 2)) + bytes([3, 2])), "do not add up"
    yield "score_lies", summary(body=input_counts((1, 2), (262, 2)) + bytes([3, 1])), "do not add up"
    yield "pairs_more_than_events", paired(3, 3, 3), "share than can be"
    yield "pairs_more_than_their_inputs", paired(1, 2, 2), "share than can be"
    yield "pairs_fewer_than_must_be", paired(2, 1, 2), "share than can be"
    yield "pairs_beyond", paired(1, 1, 1, 1), "out of range"
    yield "pairs_of_no_events", paired(1, 1, 1, n_paired=0), "out of range"
    yield (
        "pairs_of_histograms",
        summary({"own_totals": True, "n_paired": 2, "filled": [2, 0, 0, 0]}, input_counts((1, 2), (262, 2))),
        "layout without pairs",
    )
    yield "totals_wrap", totals_that_wrap(), "absurd"
    yield "older_without_a_batch", older(1), "names no batch"
    yield "older_count_negative", older(2, counts=((1, -2), (262, 2), (3, 2))), "out of order"
    yield "older_bins_out_of_order", older(2, counts=((262, 2), (1, 2), (3, 2))), "out of order"
    yield "older_filled_lies", older(2, {"filled": [2, 1, 10**9]}), "summary"
    yield "older_filled_text", older(2, {"filled": "all"}), "filled"
    yield "older_nan", older(2, {"n_events": float("nan")}), "n_events"


def paired(*counts, n_paired=2):
    """Write counts of pairs: the first input's, those of both, the second input's."""
    body = input_counts((1, 2), (262, 2)) + bytes([3, 2]) + bytes(len(counts)) + bytes(counts)
    return summary({"n_paired": n_paired, "filled": [2, 1, 0, len(counts)]}, body)


def totals_that_wrap():
    """Write counts of one wide input that add up to n_events only modulo 2^64."""
    n = 2**12
    counts = [2**52] * n
    counts[0] += 2
    body = bytes(n) + b"".join(bytes((c >> 8 * plane) & 255 for c in counts) for plane in range(8))
    fields = {
        "input_names": ["x"], "minimums": [0], "maximums": [8000], "filled": [n, 1, 0, 0],
        "widths": [[1, 8], [1, 1], [1, 1], [1, 1]],
    }  # fmt: skip
    return summary(fields, body + bytes([3, 2]))


MAKERS = {"batches": batches, "conditions": conditions, "summaries": summaries}


def main():
    """Write every file and the index of each folder."""
    for kind, make in MAKERS.items():
        folder = FOLDER / kind
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        lines = ["# Made by ../make.py: file = a part of the reason for which the message is refused."]
        for name, content, reason in make():
            packed = len(content) > PACKABLE
            file = f"{name}.bin.gz" if packed else f"{name}.bin"
            (folder / file).write_bytes(gzip.compress(content, mtime=0) if packed else content)
            lines.append(f"{json.dumps(file)} = {json.dumps(reason)}")
        (folder / "index.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
