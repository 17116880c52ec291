"""Robustness of EasyEdit's own methods, run by the unmodified `BaseEditor` on EasyEdit's own hyper-parameters."""

import json

import pytest
import yaml

from easyedit_rep import measure_robustness
from easyedit_rep.integrations.easyedit import accept_rep_files

pytestmark = pytest.mark.easyedit

QUICK = {"v_num_grad_steps": 3, "context_template_length_params": [[5, 5]], "mom2_adjustment": False}
OURS = ("method", "rep", "bf16", "batch_size", "max_length")
NOT_MEMITS = ("context_template_length_params", "fp16")


@pytest.fixture
def own_file(bench_hparams, tmp_path):
    """EasyEdit's own YAML of a method for bench-llama, quick, with what `more` says."""

    def make(base: str, **more) -> str:
        values = {**vars(bench_hparams(**QUICK)), "alg_name": base}
        values = {name: value for name, value in values.items() if name not in (OURS if base == "ROME" else (*OURS, *NOT_MEMITS))}
        path = tmp_path / f"{base}.yaml"
        path.write_text(yaml.safe_dump({**values, **more}))
        return str(path)

    return make


def check(metrics):
    json.dumps(metrics)
    for row in metrics:
        before, after = row["pre"]["robustness"], row["post"]["robustness"]
        assert before.keys() == after.keys() >= {"success", "reversion", "rephrase", "shuffle", "long"}
        assert before["success"] == [0.0]
        assert after["shuffle"]["in_domain"]["exact"]
        assert "rewrite_acc" in row["post"], "EasyEdit's own numbers are there as ever"


def test_a_block_in_the_yaml_of_rome(own_file, columns, easyeditor, capsys):
    accept_rep_files()
    hparams = easyeditor.ROMEHyperParams.from_hparams(own_file("ROME", v_num_grad_steps=30, robustness=True))
    editor = easyeditor.BaseEditor.from_hparams(measure_robustness(hparams))
    metrics, _, _ = editor.edit(**columns(2), verbose=False)
    check(metrics)
    assert metrics[0]["post"]["robustness"]["success"] == [1.0]
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Robustness Summary:")]
    assert "'post': {'success': " in said


def test_a_yaml_alone_is_enough_once_the_plug_in_is_active(own_file, columns, easyeditor):
    accept_rep_files()
    editor = easyeditor.BaseEditor.from_hparams(
        easyeditor.ROMEHyperParams.from_hparams(own_file("ROME", robustness={"queries": {"shuffle_count": 10}}))
    )
    metrics, _, _ = editor.edit(**columns(1), verbose=False)
    check(metrics)


def test_batches_of_memit_and_an_editor_that_is_made_already(own_file, columns, easyeditor, bench_editor):
    bench_editor.memory  # noqa: B018 (its statistics are on disk then)
    more = {"mom2_update_weight": 1000, "layer_selection": "all", "mom2_adjustment": True, "batch_size": 2}
    hparams = easyeditor.MEMITHyperParams.from_hparams(own_file("MEMIT", **more))
    editor = easyeditor.BaseEditor.from_hparams(hparams)
    plain, _, _ = editor.batch_edit(**columns(2), verbose=False)
    assert all("robustness" not in row["post"] for row in plain)
    measure_robustness(editor)
    metrics, _, _ = editor.batch_edit(**columns(3), verbose=False)
    check(metrics)
