"""lm-evaluation-harness on an edited model: a task of its own YAML over real facts; a model whose edits are undone is the base exactly."""

import json
from pathlib import Path

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.ledger import Ledger

DATA = Path(__file__).parents[3] / "shared" / "data" / "rep" / "test.counterfact_llama2-7b.json"
TASK = """
task: counterfact_recall
dataset_path: json
dataset_kwargs: {data_files: {test: "%s"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: "{{[old, new]}}"
doc_to_target: 1
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1}
"""


@pytest.fixture
def measure(tmp_path, tok, monkeypatch):
    """results and log-likelihoods of an `HFLM` on 20 facts."""
    pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install '.[lm_eval]'")
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    facts = json.loads(DATA.read_text(encoding="utf-8"))[:20]
    rows = [{"prompt": f["prompt"], "old": " " + f["target_true"], "new": " " + f["target_new"]} for f in facts]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(TASK % (tmp_path / "facts.jsonl"))
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)

    def run(model, **options):
        lm = HFLM(pretrained=model, tokenizer=tok, batch_size=4, device="cpu", **options)
        out = simple_evaluate(lm, tasks=["counterfact_recall"], task_manager=tasks, bootstrap_iters=0)
        return out["results"]["counterfact_recall"]["acc,none"], [s["filtered_resps"] for s in out["samples"]["counterfact_recall"]]

    return run


@pytest.mark.slow
def test_base_edited_undone(measure, make_model, make_random, tok, tmp_path):
    vocabulary = {"vocab_size": len(tok)}  # with peft=, lm_eval cuts the embeddings to the tokenizer's size
    model = make_model("llama", **vocabulary)
    base = measure(model)
    ledger = Ledger.of(model, Anatomy(model))
    for seed in range(3):
        ledger.apply(make_random(model, seed, layers=(1, 2)))
    edited = measure(model)
    assert edited[1] != base[1]
    ledger.save(tmp_path / "edits")
    make_model("llama", **vocabulary).save_pretrained(tmp_path / "base")
    tok.save_pretrained(tmp_path / "base")
    by_peft = measure(str(tmp_path / "base"), peft=str(tmp_path / "edits"), dtype="float32")
    found, wanted = (torch.tensor([[float(value) for value, _ in choices] for choices in run[1]]) for run in (by_peft, edited))
    assert torch.allclose(found, wanted, atol=1e-3)
    assert by_peft[0] == edited[0]
    for place in (1, 0, 0):
        ledger.remove(place)
    assert measure(model) == base
