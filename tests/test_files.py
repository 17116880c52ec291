"""What is left of writing a file that was killed goes, and nothing else does."""

import os
import subprocess
import sys

from easyedit_rep.files import remove_scratch


def test_only_what_dead_processes_left_goes(tmp_path):
    path = tmp_path / "names [1].json"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {"dead": dead.pid, "own": os.getpid(), "living": os.getppid(), "of a user": "_backup"}
    for name, number in names.items():
        path.with_name(f"{path.name}.tmp{number}").write_text(name)
    remove_scratch(path)
    assert sorted(left.read_text() for left in tmp_path.iterdir()) == ["living", "of a user"]
    remove_scratch(tmp_path / "nowhere" / "a.json")
