"""`easyedit-rep analyze` on the demo model: records, a table and a figure of every analysis, then one page of them all."""

import pytest
import yaml
from typer.testing import CliRunner

from easyedit_rep.analysis.registry import ANALYSES
from easyedit_rep.analysis.study import Study
from easyedit_rep.bench.journal import Journal, read_journal
from easyedit_rep.cli import app
from easyedit_rep.commands.analyze import _show
from easyedit_rep.demo import CORPUS, FACTS, HPARAMS, MODEL_DIR
from easyedit_rep.errors import EditError

COMMANDS = [name for name in ANALYSES if name != "targets"]  # edits MQD, see test_mqd.py
EXTRA = {"collisions": ["--tokens", "1500", "--top", "3"], "gate": ["--tokens", "500"]}


@pytest.fixture
def hparams(tmp_path):
    """The demo's YAML with less to do."""
    values = yaml.safe_load(HPARAMS.read_text())
    values |= {"model_name": str(MODEL_DIR), "v_num_grad_steps": 5, "context_template_length_params": [[5, 5]]}
    values["rep"] |= {"corpus": str(CORPUS), "value_cache": str(tmp_path / "values"), "statistics_tokens": 3000}
    values["rep"]["training"] |= {"steps": 10, "other_subjects": 8}
    values["rep"]["queries"] = {"shuffle_count": 2, "long_context_count": 2, "long_context_tokens": 30}
    path = tmp_path / "quick.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", ["keys", "pca", "values", "bounds", "gate"])
def test_facts_that_were_all_refused_are_an_error_with_the_reason(name, tmp_path):
    """As `bounds` refuses every edit of a method that writes several layers."""
    with Journal(tmp_path / f"{name}.jsonl", {"analysis": name}) as journal:
        journal.add([{"index": i, "subject": "Ann Lee", "error": "bounds are of an edit in one layer"} for i in range(2)])
    with pytest.raises(EditError, match="all 2 facts were refused, the first because bounds are of an edit in one layer"):
        _show(journal.path)


@pytest.mark.parametrize(("command", "facts"), [("keys", 50), ("collisions", 100), ("pca", 33)])
def test_any_table_can_be_analysed(command, facts, tmp_path, monkeypatch):
    (tmp_path / "facts.csv").write_text("q,s,a\nA is,A,b\nC is,D,e\n")  # the second names no subject
    (tmp_path / "map.yaml").write_text("columns: {prompt: q, subject: s, target_new: a}")
    given = []
    monkeypatch.setattr(Study, "of", lambda run, layer, tell: given.append((run, layer)) or 1 / 0)
    arguments = ["--hparams", str(HPARAMS), "--data", str(tmp_path / "facts.csv"), "--columns", str(tmp_path / "map.yaml"), "--layer", "1"]
    result = CliRunner().invoke(app, ["analyze", command, *arguments, "--no-strict"])
    assert isinstance(result.exception, ZeroDivisionError), result.output
    ((run, layer),) = given
    assert (run.n, run.known, layer) == (facts, True, 1)
    assert run.reading.load(run.data).requests[0].target_new == "b"
    assert "record 1" in str(CliRunner().invoke(app, ["analyze", command, *arguments]).exception)


def test_every_analysis_and_the_report(hparams, tmp_path):
    out = tmp_path / "out"
    for name in COMMANDS:
        arguments = ["--hparams", str(hparams), "--data", str(FACTS), "--n", "2", "--all", "--out", str(out), *EXTRA.get(name, [])]
        result = CliRunner().invoke(app, ["analyze", name, *arguments])
        assert result.exit_code == 0, (name, result.output, result.exception)
        provenance, records = read_journal(out / f"{name}.jsonl")
        assert provenance["analysis"] == name and records
        assert (out / f"{name}.png").stat().st_size <= 200_000
    result = CliRunner().invoke(app, ["report", str(out)])
    assert result.exit_code == 0, result.output
    assert f"{len(COMMANDS)} sections" in result.output
