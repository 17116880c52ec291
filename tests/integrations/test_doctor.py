"""`easyedit-rep doctor`: what it says and its exit code, without EasyEdit and with a stand-in for it."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.cli import app
from easyedit_rep.demo import HPARAMS
from easyedit_rep.integrations import doctor
from easyedit_rep.memory.statistics import statistics_file, statistics_path


def ask(*arguments: str):
    return CliRunner().invoke(app, ["doctor", *arguments], env={"COLUMNS": "400"})


@pytest.fixture
def files(tmp_path):
    """A folder of one YAML whose statistics belong under tmp_path/stats, and the path of a layer's."""
    folder = tmp_path / "hparams"
    folder.mkdir()
    data = yaml.safe_load(HPARAMS.read_text())
    data |= {"stats_dir": str(tmp_path / "stats"), "model_name": "some/where/", "layers": [1, 2], "rewrite_module_tmp": "m.{}.down"}
    (folder / "mine.yaml").write_text(yaml.safe_dump(data))
    names = (data["mom2_dataset"], data["mom2_dtype"], data["mom2_n_samples"])
    return folder, lambda layer: statistics_file(tmp_path / "stats", "some/where", f"m.{layer}.down", *names)


def by_name(findings, section):
    return {finding.name: finding for finding in findings if finding.section.startswith(section)}


def test_without_easyedit(no_easyeditor, tmp_path):
    file = tmp_path / "report.json"
    result = ask("--json", str(file))
    assert result.exit_code == 0, result.output
    assert "not found" in result.output and "EASYEDIT_HOME" in result.output
    report = json.loads(file.read_text())
    assert report["well"] is True
    assert {"Packages", "Machine", "EasyEdit", "Statistics"} == {finding["section"] for finding in report["findings"]}
    assert ask("--easyedit").exit_code == 1


def test_wrong_home(no_easyeditor, monkeypatch):
    monkeypatch.setenv("EASYEDIT_HOME", "nowhere")
    result = ask()
    assert result.exit_code == 1
    assert "'nowhere'" in result.output


def test_all_is_well_with_easyedit(easyedit_home, monkeypatch, tmp_path):
    monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    result = ask("--easyedit", "--hparams", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "no git" in result.output
    assert "BatchEditor.is_batchable_method" in result.output


CHANGES = {
    "ALG_DICT": ("util/alg_dict.py", "ALG_DICT =", "OTHER =", "BaseEditor would not know REP"),
    "batches": ("editors/batch_editor.py", "is_batchable_method", "batches", "batch_edit would refuse REP"),
    "arguments": ("editors/editor.py", "record", "request", "no argument record, so robustness could not be measured"),
    "from_hparams": ("hparams.py", "hparams_name_or_path", "path", "could not load a REP file"),
    "caches": ("models/rome/compute_u.py", "inv_mom2_cache", "cache", "models would share what belongs to one"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_easyedit_says_what_breaks(change, easyedit_home, monkeypatch, tmp_path):
    name, old, new, breaks = CHANGES[change]
    file = easyedit_home / "easyeditor" / name
    file.write_text(file.read_text().replace(old, new))
    monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    result = ask("--hparams", str(tmp_path))
    assert result.exit_code == 1
    assert breaks in result.output


def test_missing_dependency_is_named_with_its_pip_line(easyedit_home, monkeypatch):
    init = easyedit_home / "easyeditor/__init__.py"
    init.write_text("import no_such_module\n" + init.read_text())
    monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    found = by_name(doctor.easyedit([Requirement("no-such-distribution"), Requirement("numpy")], required=False), "EasyEdit")
    assert found["dependencies"].state == "wrong"
    assert found["dependencies"].detail == "1 missing: pip install no-such-distribution"
    assert found["import"].state == "wrong" and "no_such_module" in found["import"].detail


def test_broken_import_is_told_not_raised(easyedit_home, monkeypatch, capsys):
    init = easyedit_home / "easyeditor/__init__.py"
    init.write_text("print('noise')\nraise RuntimeError('CUDA\\nis old')\n")
    monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    found = by_name(doctor.easyedit([], required=False), "EasyEdit")
    assert found["import"].detail == "fails: RuntimeError: CUDA is old"
    assert capsys.readouterr().out == ""


def test_versions_out_of_range_and_missing_packages_are_wrong():
    needed = [Requirement("torch>=99"), Requirement("numpy"), Requirement("no-such-distribution>=2")]
    found = by_name(doctor.packages(SpecifierSet(">=99"), needed), "Packages")
    assert [found[name].state for name in ("Python", "torch", "numpy", "no-such-distribution")] == ["wrong", "wrong", "ok", "wrong"]
    assert ">=99" in found["torch"].detail
    assert "pip install 'no-such-distribution>=2'" in found["no-such-distribution"].detail


def test_devices_and_their_memory(monkeypatch):
    def memory(index):
        if index:
            raise RuntimeError("CUDA error: busy\nmore")
        return 2**30, 4 * 2**30

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.mem_get_info", memory)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "Some GPU")
    found = by_name(doctor.machine(), "Machine")
    assert found["cuda:0"].detail == "Some GPU, 1.0 of 4.0 GiB free"
    assert (found["cuda:1"].state, found["cuda:1"].detail) == ("wrong", "does not answer: CUDA error: busy")
    assert "cuda" not in found


def test_declared_is_setup_cfg():
    python, needed, extra = doctor.declared()
    assert "3.10" in python and "3.9" not in python
    assert {"torch", "transformers", "peft"} <= {requirement.name for requirement in needed}
    assert "hydra-core" in {requirement.name for requirement in extra}


def test_declared_of_an_installation_is_its_metadata(monkeypatch, tmp_path):
    lines = ["torch>=2.4", 'tomli; python_version < "3"', 'einops; extra == "easyedit"', 'pytest; extra == "test"']
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "easyedit_rep/integrations/doctor.py"))
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(doctor.metadata, "metadata", lambda name: {"Requires-Python": ">=3.10"})
    python, needed, extra = doctor.declared()
    assert (str(python), [str(r) for r in needed], [r.name for r in extra]) == (">=3.10", ["torch>=2.4"], ["einops"])


def test_neither_installed_nor_a_checkout_is_wrong(monkeypatch, tmp_path, no_easyeditor):
    def absent(name):
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "easyedit_rep/integrations/doctor.py"))
    monkeypatch.setattr(doctor.metadata, "requires", absent)
    result = ask("--hparams", str(tmp_path))
    assert result.exit_code == 1 and "neither installed nor in its checkout" in result.output


def test_statistics_found_and_missing(files):
    folder, path = files
    (found,) = doctor.statistics(folder)
    assert (found.name, found.state, found.facts["missing"]) == ("mine.yaml", "note", [1, 2])
    path(2).parent.mkdir(parents=True)
    np.savez(path(2), **{"mom2.count": np.array(12345), "mom2.mom2": np.eye(3)})
    there, missing = doctor.statistics(folder)
    assert there.detail == "layer 2: 12,345 tokens, no fingerprint record, so taken on trust"
    assert there.facts == {"layer": 2, "path": str(path(2)), "record": False, "tokens": 12345}
    assert missing.facts["missing"] == [1]
    path(2).with_suffix(".json").write_text("{}")
    assert next(doctor.statistics(folder)).detail.endswith("fingerprint recorded")


def test_broken_statistics_are_wrong(files):
    folder, path = files
    path(1).parent.mkdir(parents=True)
    path(1).write_bytes(b"PK nothing")
    found = next(doctor.statistics(folder))
    assert found.state == "wrong" and "delete the file" in found.detail


def test_unreadable_yaml_is_wrong(tmp_path):
    (tmp_path / "bad.yaml").write_text("alg_name: REP\nrep: {}\nlayerz: [1]\n")
    (found,) = doctor.statistics(tmp_path)
    assert found.state == "wrong" and "layerz" in found.detail


def test_names_are_those_that_loaded_models_give(llama):
    anatomy = Anatomy(llama)
    named = statistics_file("s", "tiny/llama/", anatomy.rewrite_name(1), "wikitext", "float32", 100)
    assert named == statistics_path("s", anatomy, 1, "wikitext", "float32", 100)
    assert named == Path("s/llama/wikitext_stats/model.layers.1.mlp.down_proj_float32_mom2_100.npz")
