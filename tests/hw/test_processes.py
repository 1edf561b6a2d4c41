import subprocess
import sys

CHILD = "import time; print('ready', flush=True); time.sleep(60)"
PARENT = f"""
import subprocess, sys, time
from hw.processes import die_with_parent
subprocess.Popen([sys.executable, "-c", {CHILD!r}], preexec_fn=die_with_parent())
time.sleep(60)
"""


def test_a_child_dies_with_a_killed_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    parent.wait()
    # the child holds the other end of the pipe: it reads empty only once the child is gone as well
    assert parent.stdout.read() == ""
    parent.stdout.close()
