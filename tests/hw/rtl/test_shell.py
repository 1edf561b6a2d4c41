"""The whole firmware at its ports: the bus, the banks, waiting, and a partition that is being replaced."""

import ctypes

import numpy as np
import pytest

from hw.emulator import Emulator
from hw.layout import Layout
from hw.rtl.memory_map import WINDOW_BITS
from hw.rtl.shell import SHELL, shell_map
from hw.rtl.sources import shell_harness, shell_sources
from hw.rtl.timing import firmware_interval_cycles, firmware_latency_cycles
from hw.verilator import compile_verilog, lint
from tests.support.odd_models import odd_inputs, odd_model

REUSE = 2
SIZES = (4, 7, 3, 2)

PORTS = """
EXPORT void lumiwatch_reset(void) {
    Vtop &top = engine().top;
    top.rst = 1;
    engine().tick();
    top.rst = 0;
}

EXPORT void lumiwatch_take_answers(void) { engine().top.score_ready = 1; }

// Between two clocks: what the outputs do at once.
EXPORT int lumiwatch_decouple(int mask) {
    Vtop &top = engine().top;
    top.decouple = mask;
    top.eval();
    return top.score_valid << 1 | top.in_ready;
}

EXPORT void lumiwatch_leave_an_answer_waiting(void) {
    Vtop &top = engine().top;
    top.score_ready = 0;
    for (int clock = 0, sent = 0; clock < 200; clock++) {
        top.in_valid = sent < n_inputs;
        sent += top.in_valid && top.in_ready;
        engine().tick();
    }
}

EXPORT void lumiwatch_poke(uint32_t address, uint32_t data) {
    Vtop &top = engine().top;
    top.bus_write = 1;
    top.bus_address = address;
    top.bus_data = data;
    engine().tick();
    top.bus_write = 0;
    engine().tick();
}

EXPORT int32_t lumiwatch_peek(uint32_t address) {
    Vtop &top = engine().top;
    top.bus_read = 1;
    top.bus_address = address;
    engine().tick();
    top.bus_read = 0;
    top.bus_address = ~address;
    engine().tick();
    engine().tick();
    return (int32_t)top.bus_value;
}

// Values with gaps, answers that are not taken at once, words read back in between, and a bank input that
// changes within an event.
EXPORT int lumiwatch_stream(const int64_t *inputs, const uint8_t *banks, int64_t events, int64_t *outputs) {
    Vtop &top = engine().top;
    uint32_t noise = 1;
    int64_t sent = 0, results = 0, scores = 0;
    for (int64_t clock = 0; scores < events; clock++) {
        if (clock > 1000 * events)
            return 2;
        noise ^= noise << 13, noise ^= noise >> 17, noise ^= noise << 5;
        top.in_valid = sent < events * n_inputs && (noise >> 9 & 3) != 0;
        top.score_ready = (noise >> 12 & 15) == 0;  // mostly busy: the engine has to wait
        top.bus_read = (noise >> 16 & 7) == 0;
        top.bus_address = (noise >> 7 & 0x7f) | (noise >> 20 & 3) << 20;
        const bool first = sent % n_inputs == 0;
        top.bank = first && top.in_valid ? banks[sent / n_inputs] : noise >> 4 & 1;
        if (top.in_valid)
            top.in_data = inputs[sent] & 0xffff;
        top.eval();
        if (top.result_valid) {
            outputs[results / n_results * n_outputs + results % n_results] = top.result_data;
            results++;
        }
        if (top.score_valid && top.score_ready) {
            outputs[scores * n_outputs + n_results] = top.score;
            outputs[scores++ * n_outputs + n_results + 1] = top.accept;
        }
        sent += top.in_valid && top.in_ready;
        engine().tick();
    }
    top.in_valid = top.bus_read = 0;
    top.score_ready = 1;
    engine().tick();
    return 0;
}

// Half an event goes in; is anything heard?
EXPORT int lumiwatch_half_an_event(int64_t clocks) {
    Vtop &top = engine().top;
    int heard = 0, sent = 0;
    for (int64_t i = 0; i < clocks; i++) {
        top.in_valid = sent < n_inputs / 2;
        sent += top.in_valid && top.in_ready;
        engine().tick();
        heard |= top.score_valid;
    }
    top.in_valid = 0;
    return heard;
}
"""


def _model(seed):
    return odd_model(seed, sizes=SIZES, cuts=(1,))


@pytest.fixture(scope="module")
def model():
    return _model(8)


@pytest.fixture(scope="module")
def shell(model, tmp_path_factory):
    harness = shell_harness(model, REUSE) + PORTS
    path = tmp_path_factory.mktemp("shell") / "shell.so"
    return ctypes.CDLL(str(compile_verilog(shell_sources(model, REUSE), harness, SHELL, path)))


@pytest.fixture(scope="module")
def other(model):
    """Give the same structure with other parameters."""
    rng = np.random.default_rng(2)
    return model.with_memory(
        np.concatenate(
            [
                rng.integers(s.format.raw_minimum, s.format.raw_maximum, s.words, endpoint=True)
                for s in model.segments()
            ]
        )
    )


def _pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def _answers(model, inputs):
    emulator = Emulator(model)
    scores, accepts = emulator.run(inputs)
    return np.column_stack([emulator.outputs(inputs), scores, accepts])


def _run(shell, model, inputs):
    values, memory = inputs.astype(np.int64), model.memory()
    outputs = np.empty((len(inputs), model.layers[-1].n_out + 2), dtype=np.int64)
    assert (
        shell.lumiwatch_run(
            _pointer(values), ctypes.c_int64(len(inputs)), _pointer(memory), _pointer(outputs)
        )
        == 0
    )
    return outputs


def _addresses(model, bank):
    return [
        (segment.address(word) | bank << WINDOW_BITS, segment.start + word)
        for segment in shell_map(model.partitions(), REUSE)
        for word in range(segment.rows * segment.columns)
    ]


def _load(shell, model, bank):
    memory = model.memory()
    for address, word in _addresses(model, bank):
        shell.lumiwatch_poke(address, int(memory[word]) & 0xFFFFFFFF)


def test_verilator_has_no_remark_on_the_design(model):
    assert lint(shell_sources(model, REUSE), SHELL) == ""
    assert lint(shell_sources(model, 1), SHELL) == ""


def test_the_shell_answers_as_the_emulator_and_as_fast_as_documented(shell, model):
    inputs = odd_inputs(model, 2000)
    want = _answers(model, inputs)
    assert len(np.unique(want[:, :-2], axis=0)) > 100
    assert (_run(shell, model, inputs) == want).all()
    assert shell.lumiwatch_latency() == firmware_latency_cycles(model, REUSE)
    assert shell.lumiwatch_interval() == firmware_interval_cycles(model, REUSE)


def test_every_word_of_both_banks_reads_back(shell, model, other):
    _load(shell, model, 0)
    _load(shell, other, 1)
    for bank, held in ((0, model.memory()), (1, other.memory())):
        found = [(shell.lumiwatch_peek(address), held[word]) for address, word in _addresses(model, bank)]
        assert [read for read, _ in found] == [word for _, word in found]
    addresses = [address for bank in (0, 1) for address, _ in _addresses(model, bank)]
    assert len(set(addresses)) == 2 * model.n_words


def test_a_bank_belongs_to_a_whole_event_and_waiting_changes_nothing(shell, model, other):
    _load(shell, model, 0)
    _load(shell, other, 1)
    inputs = odd_inputs(model, 600, seed=3)
    banks = np.random.default_rng(4).integers(0, 2, len(inputs), dtype=np.uint8)
    values = inputs.astype(np.int64)
    outputs = np.empty((len(inputs), model.layers[-1].n_out + 2), dtype=np.int64)
    assert (
        shell.lumiwatch_stream(
            _pointer(values), _pointer(banks), ctypes.c_int64(len(inputs)), _pointer(outputs)
        )
        == 0
    )
    want = np.where(banks[:, None] == 0, _answers(model, inputs), _answers(other, inputs))
    assert (_answers(model, inputs) != _answers(other, inputs)).any(axis=1).mean() > 0.5
    widths = [model.layers[-1].result_format.width] * (want.shape[1] - 2)
    masks = np.array([(1 << width) - 1 for width in [*widths, model.score_stage.result_format.width, 1]])
    assert (outputs == want & masks).all()


@pytest.mark.parametrize("partition", [0, 1])
def test_a_partition_that_is_replaced_is_quiet_and_a_reset_starts_anew(shell, model, partition):
    inputs = odd_inputs(model, 50, seed=5)
    want = _run(shell, model, inputs)
    memory = model.memory()
    address = next(a for a, w in _addresses(model, 0) if a >> (WINDOW_BITS + 1) == partition and memory[w])
    _load(shell, model, 0)
    assert shell.lumiwatch_peek(address) != 0
    shell.lumiwatch_leave_an_answer_waiting()
    assert shell.lumiwatch_decouple(0) == 0b11
    assert shell.lumiwatch_decouple(1 << partition) == (0b10, 0b01)[partition]
    assert shell.lumiwatch_half_an_event(ctypes.c_int64(200)) == partition ^ 1
    assert shell.lumiwatch_peek(address) == 0
    shell.lumiwatch_decouple(0)
    shell.lumiwatch_take_answers()
    shell.lumiwatch_reset()
    assert (_run(shell, model, inputs) == want).all()


def test_a_map_of_one_partition_does_not_depend_on_another(model):
    alone = {s.name: s for s in shell_map(model.partitions()[:1], REUSE)}
    assert all(
        segment == alone[segment.name]
        for segment in shell_map(model.partitions(), REUSE)
        if segment.name in alone
    )


def test_without_cuts_the_shell_holds_one_partition(model):
    from dataclasses import replace  # noqa: PLC0415

    whole = replace(model, layout=Layout("lumiwatch-rtl"))
    assert lint(shell_sources(whole, 1), SHELL) == ""
