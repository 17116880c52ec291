"""Tasks of lm-evaluation-harness on a model in memory: an own task over a local file, offline."""

import json

import pytest
import torch

from easyedit_rep.errors import EditError
from easyedit_rep.evaluation.ability import AbilityTasks, measure_ability

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")


@pytest.fixture
def folder(tmp_path):
    rows = [{"prompt": f"Ann Lee plays the {i}", "choices": ["piano", "road"], "answer": 0} for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "task.yaml").write_text(
        "task: tiny_choice\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: " + str(tmp_path / "rows.jsonl") + "\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{prompt}}'\ndoc_to_choice: '{{choices}}'\n"
        "doc_to_target: '{{answer}}'\nmetric_list:\n  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
    )
    return tmp_path


def test_scores_follow_the_model(llama, tok, folder):
    tasks = AbilityTasks(["tiny_choice"], folder)
    before = torch.random.get_rng_state()
    score = measure_ability(llama, tok, tasks)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert set(score) == {"tiny_choice/acc"} and score == measure_ability(llama, tok, tasks)
    with torch.no_grad():
        llama.lm_head.weight.neg_()  # every preference turns round
    assert measure_ability(llama, tok, tasks)["tiny_choice/acc"] == pytest.approx(1 - score["tiny_choice/acc"])


@pytest.mark.slow  # lm-eval lists its thousands of tasks first
def test_unknown_tasks_are_refused(llama, tok, folder):
    with pytest.raises(EditError, match=r"no task 'tiny_chioce' or in .*: `lm-eval ls tasks` lists them"):
        measure_ability(llama, tok, AbilityTasks(["tiny_chioce"], folder))
