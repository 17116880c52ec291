"""EasyEdit's own scripts, unmodified, from a clean checkout, as REP and as the plain method, down to the files they write."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from easyedit_rep.integrations.contract import HPARAMS_CLASSES

pytestmark = pytest.mark.easyedit

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared/data"
QUICK = {"v_num_grad_steps": 3, "context_template_length_params": [[5, 5]]}


def write(file: Path, value) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
    return file


@pytest.fixture
def data(tmp_path) -> Path:
    """Two records of each kind, under the names and in the formats the scripts look for."""
    folder = tmp_path / "data"
    zsre = json.loads((DATA / "zsre/zsre_mend_eval_portability_gpt4.json").read_text())[:2]
    for name in ("zsre_mend_eval_portability_gpt4", "zsre_mend_eval", "ZsRE/zsre_mend_edit", "ZsRE/zsre_mend_train"):
        write(folder / f"{name}.json", zsre)
    nested = json.loads((DATA / "counterfact/counterfact_distracting_neighbor.json").read_text())[:2]
    write(folder / "counterfact.json", [{**r, "neighborhood_prompts": r["neighborhood_prompts"][:2]} for r in nested])
    flat = json.loads((DATA / "counterfact/counterfact-val.json").read_text())[:2]
    write(
        folder / "knowedit.json",
        [
            {
                **{name: r[name] for name in ("subject", "prompt", "target_new", "ground_truth")},
                "locality": {"Relation_Specificity": [{"prompt": r["locality_prompt"], "ground_truth": [[r["locality_ground_truth"]]]}]},
                "portability": {"Reasoning": [{"prompt": r["rephrase_prompt"], "ground_truth": [[r["target_new"]]]}]},
            }
            for r in flat
        ],
    )
    return folder


@pytest.fixture
def rep(bench_hparams, tmp_path):
    """A REP file for bench-llama that is quick."""
    hparams = bench_hparams(**QUICK)
    values = {**vars(hparams), "alg_name": "REP", "rep": asdict(hparams.rep)}
    return _yaml(tmp_path / "rep.yaml", {k: v for k, v in values.items() if k != "method"})


@pytest.fixture
def rome(bench_hparams, tmp_path):
    """EasyEdit's own ROME file for the same."""
    values = {**vars(bench_hparams(**QUICK)), "alg_name": "ROME", "mom2_adjustment": False}
    ours = ("method", "rep", "bf16", "batch_size", "max_length")
    return _yaml(tmp_path / "rome.yaml", {k: v for k, v in values.items() if k not in ours})


def _yaml(file: Path, values: dict) -> Path:
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture
def script(tmp_path, data):
    """Runs examples/`name` in tmp_path, through us or as it is, and returns the process."""
    # Words are split at sentence ends by data that nltk would download; empty tables of it do.
    tables = tmp_path / "nltk/tokenizers/punkt_tab/english"
    tables.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (tables / name).touch()
    home = Path(os.environ["EASYEDIT_HOME"]).expanduser()

    def run(name: str, *arguments: str, through_us: bool = True, data_name: str = "") -> subprocess.CompletedProcess:
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{home}", "NLTK_DATA": str(tmp_path / "nltk"), "OMP_NUM_THREADS": "1"}
        if through_us:
            del env["EASYEDIT_HOME"]
            env["PYTHONPATH"] = str(ROOT)
        command = [*(["-m", "easyedit_rep", "run"] if through_us else []), str(home / "examples" / name)]
        where = ["--data_dir", str(data / data_name)]
        return subprocess.run(
            [sys.executable, *command, *where, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )

    return run


def numbers(rows: list[dict]) -> list[dict]:
    """Without what differs from run to run."""
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


def robust(rows: list[dict]) -> None:
    for row in rows:
        for when in ("pre", "post"):
            assert set(row[when]["robustness"]) == {"success", "paraphrase", "reversion", "rephrase", "shuffle", "long", "negatives"}
        assert row["post"]["rewrite_acc"][0] >= row["pre"]["rewrite_acc"][0]


def test_zsre_as_rep_whatever_method_it_names(script, rep, tmp_path):
    (tmp_path / "output").mkdir()  # the script does not make it
    done = script("run_zsre_llama2.py", "--editing_method", "MEMIT", "--hparams_dir", str(rep), "--ds_size", "2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the script asks for MEMIT, but rep.yaml says REP around ROME, and the file decides" in done.stderr
    rows = json.loads((tmp_path / "output/MEMIT_results.json").read_text())
    assert len(rows) == 2
    robust(rows)


def test_plain_rome_through_us_is_plain_rome(script, rome, tmp_path):
    found = []
    for through_us in (True, False):
        out = tmp_path / f"out{through_us}"
        out.mkdir()
        arguments = ("--editing_method", "ROME", "--hparams_dir", str(rome), "--ds_size", "1", "--metrics_save_dir", str(out))
        done = script("run_zsre_llama2.py", *arguments, through_us=through_us)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads((out / "ROME_results.json").read_text()))
    assert numbers(found[0]) == numbers(found[1])
    assert "robustness" not in found[0][0]["post"]


@pytest.mark.parametrize("method", ["rep", "rome"])
def test_knowedit(method, script, request, tmp_path):
    file = request.getfixturevalue(method)
    arguments = ("--editing_method", "ROME", "--hparams_dir", str(file), "--datatype", "counterfact", "--ds_size", "1")
    done = script("run_knowedit_llama2.py", *arguments, data_name="knowedit.json")
    # EasyEdit's own: after the results are written, its summary adds up lists of tokens, whatever the method.
    assert done.returncode == 1 and "TypeError: unsupported operand" in done.stderr.splitlines()[-1], done.stderr[-2000:]
    trace = done.stderr[done.stderr.index("Traceback (most recent call last)") :].splitlines()
    assert "run_knowedit_llama2.py" in trace[1], "the traceback begins in the script"
    rows = json.loads((tmp_path / "output/ROME_counterfact_bench-llama_results.json").read_text())
    assert "fluency" in rows[0]["post"]
    if method == "rep":
        robust(rows)
    else:
        assert "robustness" not in rows[0]["post"]


@pytest.mark.parametrize("method", ["rep", "rome"])
def test_wise(method, script, request, tmp_path):
    file = request.getfixturevalue(method)
    arguments = ("--editing_method", "ROME", "--hparams_dir", str(file), "--data_type", "ZsRE", "--ds_size", "2", "--sequential_edit")
    done = script("run_wise_editing.py", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "outputs/bench-llama_ROME_N=2_Sequential=True.json").read_text())
    assert len(rows) == 2
    if method == "rep":
        robust(rows)
    else:
        assert "robustness" not in rows[0]["post"]


@pytest.mark.parametrize(("method", "data_type"), [("rep", "CF"), ("rome", "ZsRE")])
def test_alphaedit(method, data_type, script, request, tmp_path):
    file = request.getfixturevalue(method)
    named = "AlphaEdit" if method == "rep" else "ROME"
    arguments = ("--editing_method", named, "--hparams_dir", str(file), "--data_type", data_type, "--ds_size", "1")
    done = script("run_AlphaEdit_editing.py", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / f"outputs/bench-llama_{named}_N=1_Sequential=False.json").read_text())
    assert "fluency" in rows[0]["post"]
    if method == "rep":
        robust(rows)
    else:
        assert "robustness" not in rows[0]["post"]


@pytest.mark.parametrize("method", HPARAMS_CLASSES)
def test_every_class_loads_its_own_files_as_before(method, easyeditor):
    """All of EasyEdit's own YAML files of the methods that were prepared, against the loaders as they were."""
    from easyedit_rep.integrations.easyedit import accept_rep_files

    kind = getattr(easyeditor, HPARAMS_CLASSES[method])
    accept_rep_files()
    loader = kind.from_hparams.__func__
    folder = Path(easyeditor.__file__).parents[1] / "hparams"
    files = sorted(file for name in {method, method.replace("-", "_"), method.upper()} for file in (folder / name).glob("*.yaml"))
    for file in [*files, Path("missing.yaml")]:
        assert outcome(loader, kind, file) == outcome(loader.__wrapped__, kind, file)


def outcome(loader, kind, file: Path):
    try:
        hparams = loader(kind, str(file))
    except Exception as error:  # noqa: BLE001 (EasyEdit's own, whatever they are)
        return type(error), str(error)
    return type(hparams), vars(hparams)
