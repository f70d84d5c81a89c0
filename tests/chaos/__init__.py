"""Chaos: a seeded program of faults against a running site, then the proof that nothing was lost.

`plan.py` draws the faults, `faults.py` carries them out on an `arena.py` (a broker of its own, one application with one
to three workers), while `load.py` writes telemetry. `program.py` runs a plan and compares what is left with what one
undisturbed worker makes of the same topic.

    python -m tests.chaos --faults 100 --samples 5000000 --seed 1
"""
