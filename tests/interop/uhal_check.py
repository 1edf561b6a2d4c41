"""Drives a board with CERN's own IPbus client; runs in the environment of `deploy/uhal-environment.sh`.

Usage: python uhal_check.py ORDER.json. The order holds the URI, the addresses and the words to write; what
was read goes to standard output as JSON, and whoever asked judges it. Knows nothing of lumiwatch.

uHAL itself does not repeat what gets lost over UDP (a ControlHub does that for it): a dispatch ends with
UdpTimeout. So every dispatch here can be done again from its start; a sum, which cannot, is looked at first.
"""

import json
import sys
from pathlib import Path

import uhal

TOKEN = 4711
TRIALS = 60
CHUNK_WORDS = 500
FIFO = uhal.BlockReadWriteMode.NON_INCREMENTAL


class Board:
    """A board behind uHAL."""

    def __init__(self, order):
        table = Path(sys.argv[1]).with_suffix(".xml")
        table.write_text('<node id="TOP"><node id="MAGIC" address="0x0"/></node>')
        self.at = order["addresses"]
        self.client = uhal.getDevice("board", order["uri"], f"file://{table}").getClient()
        self.client.setTimeoutPeriod(order["timeout_ms"])
        self.timeouts = 0

    def patiently(self, work):
        """Do work until its answers arrive."""
        for _ in range(TRIALS):
            try:
                answers = work()  # a long block is sent on the way
                self.client.dispatch()
            except (uhal.UdpTimeout, uhal.exception):
                self.timeouts += 1
                continue
            return answers
        raise SystemExit("the board does not answer")

    def read(self, address, count):
        return list(self.patiently(lambda: self.client.readBlock(address, count)))

    def write(self, address, words):
        self.patiently(lambda: self.client.writeBlock(address, words))

    def add(self, address, term, before):
        """Add once: after a timeout look whether it was done."""
        for _ in range(TRIALS):
            old = self.client.rmw_sum(address, term)
            try:
                self.client.dispatch()
            except uhal.exception:
                self.timeouts += 1
                if self.read(address, 1)[0] != before:
                    return before
                continue
            return int(old)
        raise SystemExit("the board does not answer")


def scratch(board, order):
    """Blocks, single words and both kinds of read-modify-write."""
    first, words = board.at["SCRATCH"], order["scratch"]
    board.write(first, words)
    block = board.read(first, len(words))
    board.patiently(lambda: board.client.write(first + 3, 0x0F0F_0F0F))
    bits = [board.patiently(lambda: board.client.rmw_bits(first + 3, 0xFFFF_FF00, 0xA5))]
    bits.append(board.read(first + 3, 1)[0])
    sums, value = [], bits[-1]
    for term in (1, -1, 1000):
        sums.append(board.add(first + 3, term, value))
        value = board.read(first + 3, 1)[0]
    return {"block": block, "bits": [int(value) for value in bits], "sums": sums, "last": value}


def events(board, order):
    """Play events through the FIFOs; a repetition begins with empty ones."""
    at, words, count = board.at, order["events"], order["event_count"]

    def play():
        for register in ("EVENT_RELEASE", "EVENT_LOCK"):
            board.client.write(at[register], TOKEN)
        board.client.writeBlock(at["EVENT_IN"], words, FIFO)
        waiting = board.client.read(at["EVENT_OUT_COUNT"])
        answers = board.client.readBlock(at["EVENT_OUT"], count, FIFO)
        board.client.write(at["EVENT_RELEASE"], TOKEN)
        return waiting, answers

    waiting, answers = board.patiently(play)
    return {"waiting": int(waiting), "answers": list(answers)}


def reload(board, order):
    """Load weights into the inactive bank, read them back and switch."""
    at, words = board.at, order["weights"]
    board.write(at["CONFIG_LOCK"], [TOKEN])
    back = []
    for start in range(0, len(words), CHUNK_WORDS):
        board.write(at["CONFIG_LOCK"], [TOKEN])  # the lease begins anew
        board.write(at["INACTIVE_BANK"] + start, words[start : start + CHUNK_WORDS])
    for start in range(0, len(words), CHUNK_WORDS):
        back += board.read(at["INACTIVE_BANK"] + start, min(CHUNK_WORDS, len(words) - start))
    for register, value in order["requests"].items():
        board.write(at[register], value)
    epoch = board.read(at["EPOCH"], 1)[0]
    while board.read(at["EPOCH"], 1)[0] == epoch:  # a second switch would go back
        command = board.client.write(at["COMMAND"], order["switch"])
        try:
            board.client.dispatch()
        except uhal.exception:
            board.timeouts += 1
        del command
    result = board.read(at["RESULT"], 1)[0]
    board.write(at["CONFIG_RELEASE"], [TOKEN])
    return {"read_back": back, "result": result}


def bus_error(board):
    """Read where nothing is."""
    board.client.read(board.at["NOWHERE"])
    try:
        board.client.dispatch()
    except uhal.exception as error:
        return str(error)
    return ""


def main():
    uhal.setLogLevelTo(uhal.LogLevel.ERROR if "-v" in sys.argv else uhal.LogLevel.FATAL)
    order = json.loads(Path(sys.argv[1]).read_text())
    board = Board(order)
    report = {
        "scratch": scratch(board, order),
        "events": events(board, order),
        "reload": reload(board, order),
    }
    report["after"] = events(board, order)
    report["bus_error"] = bus_error(board) if order["bus_error"] else ""
    report["timeouts"] = board.timeouts
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
