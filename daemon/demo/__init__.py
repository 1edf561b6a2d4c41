"""`lumiwatch demo`: the whole loop on one machine, narrated, on real input.

`script` says what happens in which order, `stage` sets up the folder and replays the run through
the board, `summary` says at the end what really happened, from the records alone.
"""
