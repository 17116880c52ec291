"""`easyedit-rep run`: a script sees what it would see under `python`, and its hyper-parameter classes load REP files."""

import json
import os
import random
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from easyedit_rep import EditError, REPHyperParams
from easyedit_rep.cli import app, main
from easyedit_rep.demo import HPARAMS
from easyedit_rep.integrations.easyedit import accept_rep_files
from easyedit_rep.integrations.runner import NOT_FOUND, prepare, start

ROOT = Path(__file__).resolve().parents[2]
SHOW = """
import json, os, random, sys
random.seed(7)
before = random.random()
if __name__ == "__main__":
    json.dump([sys.argv, sys.path[0], __name__, __file__, os.getcwd(), "easyeditor" in sys.modules], open("seen.json", "w"))
"""
LOAD = """
import random, sys
random.seed(7)
from easyeditor import ROMEHyperParams, MEMITHyperParams, BaseEditor
drawn = random.random()
result = {"ROME": ROMEHyperParams, "MEMIT": MEMITHyperParams}[sys.argv[1]].from_hparams(sys.argv[2])
"""


def run(*command: str) -> dict:
    """The script's global names after it has run in this process."""
    return runpy.run_path(prepare(command), run_name="__main__")


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scripts").mkdir()
    return lambda source: str(_written(Path("scripts/mine.py"), source))


def _written(file: Path, source: str) -> Path:
    file.write_text(source)
    return file


def test_script_sees_its_own_process(script, process, tmp_path):
    start(prepare([script(SHOW), "--help", "--hparams_dir", "a b"]))
    argv, first, name, file, cwd, imported = json.loads(Path("seen.json").read_text())
    assert Path(argv[0]).resolve() == Path(file) == tmp_path / "scripts/mine.py"
    assert argv[1:] == ["--help", "--hparams_dir", "a b"]
    assert (first, name, cwd) == (str(tmp_path / "scripts"), "__main__", str(tmp_path))
    assert not imported, "EasyEdit seeds every generator when it is imported, so that is the script's to do"


@pytest.mark.parametrize("way", ["main", "app"])
def test_command_line_keeps_nothing_for_itself(way, script, process):
    arguments = ["run", script("import sys\nsys.exit(len(sys.argv))"), "--help", "-x", "--json", "y", "--"]
    if way == "app":
        assert CliRunner().invoke(app, arguments).exit_code == 6
        return
    sys.argv = ["easyedit-rep", *arguments]
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 6


def test_missing_script_is_status_2(process, capsys):
    sys.argv = ["easyedit-rep", "run", "missing.py"]
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip() == "error: there is no script 'missing.py': name a Python file, then its arguments"


@pytest.mark.parametrize("where", ["home", "path", "script"])
def test_easyedit_is_found(where, easyedit_home, script, process, monkeypatch):
    file = script(LOAD)
    if where == "home":
        monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    elif where == "path":
        sys.path.append(str(easyedit_home))
    else:
        (easyedit_home / "examples").mkdir()
        file = str(_written(easyedit_home / "examples/mine.py", LOAD))
    assert isinstance(run(file, "ROME", str(HPARAMS))["result"], REPHyperParams)


def test_easyedit_is_not_found(script, process, capsys):
    with pytest.raises(ModuleNotFoundError) as caught:
        run(script(LOAD), "ROME", str(HPARAMS))
    sys.excepthook(caught.type, caught.value, caught.tb)
    assert capsys.readouterr().err.splitlines()[-1] == NOT_FOUND


def test_scripts_may_look_for_easyedit_themselves(script, easyedit_home, process):
    source = f"import sys\ntry:\n    import easyeditor\nexcept ImportError:\n    sys.path.append({str(easyedit_home)!r})\n" + LOAD
    assert isinstance(run(script(source), "ROME", str(HPARAMS))["result"], REPHyperParams)


def test_random_numbers_are_those_of_the_bare_script(script, easyedit_home, process, monkeypatch):
    monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    random.seed(42)  # as the stand-in does when the script imports it
    expected = random.random()
    assert run(script(LOAD), "ROME", str(HPARAMS))["drawn"] == expected


def test_easyedits_own_files_load_as_before(script, easyedit_home, process, monkeypatch, tmp_path):
    monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    own = tmp_path / "rome"
    own.with_suffix(".yaml").write_text("alg_name: ROME\nlayers: [5]\n")
    names = run(script(LOAD), "ROME", str(own))
    assert type(names["result"]) is names["ROMEHyperParams"]
    assert vars(names["result"]) == {"alg_name": "ROME", "layers": [5]}
    with pytest.raises(AssertionError):
        run(script(LOAD), "MEMIT", str(own))
    with pytest.raises(FileNotFoundError):
        run(script(LOAD), "ROME", str(tmp_path / "missing.yaml"))


def test_the_file_decides(script, easyedit_home, process, monkeypatch, caplog):
    monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    names = run(script(LOAD), "MEMIT", str(HPARAMS))
    assert names["result"].rep.base == "ROME"
    (message,) = caplog.messages
    assert "MEMIT" in message and "REP around ROME" in message and HPARAMS.name in message
    assert names["result"].alg_name == "REP"  # and with it BaseEditor knows REP
    assert "REP" in sys.modules["easyeditor"].ALG_DICT


def test_bad_rep_file_is_one_line_in_the_scripts_own_traceback(script, easyedit_home, process, monkeypatch, tmp_path):
    monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    bad = tmp_path / "bad.yaml"
    bad.write_text(HPARAMS.read_text().replace("v_lr:", "v_ir:"))
    with pytest.raises(EditError, match="unknown key 'v_ir', did you mean v_lr"):
        run(script(LOAD), "ROME", str(bad))


def test_preparing_twice_changes_nothing_more(easyedit_home, process):
    sys.path.append(str(easyedit_home))
    import easyeditor

    accept_rep_files()
    first = easyeditor.ROMEHyperParams.from_hparams.__func__
    accept_rep_files()
    assert easyeditor.ROMEHyperParams.from_hparams.__func__ is first


@pytest.mark.parametrize("command", [[], ["missing.py", "--x"], ["."]])
def test_missing_script_is_one_line(command, process):
    before = sys.argv, list(sys.path), list(sys.meta_path)
    with pytest.raises(EditError, match="no script") as caught:
        prepare(command)
    assert "\n" not in str(caught.value)
    assert (sys.argv, sys.path, sys.meta_path) == before


def test_wrong_home_is_one_line(script, process, monkeypatch):
    monkeypatch.setenv("EASYEDIT_HOME", "nowhere")
    before = list(sys.path)
    with pytest.raises(EditError, match="EASYEDIT_HOME is 'nowhere'"):
        prepare([script(SHOW)])
    assert sys.path == before


def test_exit_code_is_the_scripts(script, process):
    with pytest.raises(SystemExit) as stop:
        start(prepare([script("import sys\nsys.exit(3)")]))
    assert stop.value.code == 3


FAILURES = {
    "raises": "def f():\n    raise ValueError('x')\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    f()\n",
    "does not compile": "x = (\n",
    "is interrupted": "raise KeyboardInterrupt\n",
}


def test_traceback_and_exit_code_are_python_s(script, tmp_path):
    """All in one run of our command line, in forks of it: its imports take seconds."""
    forks = """
import os, sys
from easyedit_rep.cli import main
for name, file in zip(sys.argv[1::2], sys.argv[2::2]):
    if not (child := os.fork()):
        os.dup2(os.open(name + ".err", os.O_WRONLY | os.O_CREAT), 2)
        sys.argv = ["easyedit-rep", "run", file, "--help"]
        main()
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""
    files = {name: str(_written(Path(f"scripts/{number}.py"), source)) for number, (name, source) in enumerate(FAILURES.items())}
    arguments = [x for pair in files.items() for x in pair]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    env.pop("EASYEDIT_HOME", None)
    ours = subprocess.run([sys.executable, "-c", forks, *arguments], env=env, capture_output=True, text=True, timeout=120)
    assert ours.returncode == 0, ours.stderr
    codes = dict(zip(files, map(os.waitstatus_to_exitcode, map(int, ours.stdout.split())), strict=True))
    for name, file in files.items():
        theirs = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60)
        assert Path(f"{name}.err").read_text() == theirs.stderr
        # Python itself exits with 1 instead once peft has been imported, as it has here and is by EasyEdit.
        assert codes[name] == theirs.returncode or (theirs.returncode == -signal.SIGINT and codes[name] == 1)
