"""The real files, where they are: every record is used, or it is known why not."""

from pathlib import Path

import pytest

from easyedit_rep.datasets.columns import ColumnMap
from easyedit_rep.datasets.records import load_dataset_file

DATA = Path(__file__).parents[3] / "shared/data"
FILES = [  # file, format, records, used
    ("rep/valid.counterfact.json", "rep", 100, 100),
    ("rep/test.counterfact_llama2-7b.json", "rep", 400, 400),
    ("rep/test.zsre_llama2-7b.json", "rep", 400, 400),
    ("counterfact/counterfact-edit.json", "counterfact", 10000, 10000),
    ("counterfact/counterfact-val.json", "counterfact", 1919, 1919),
    ("counterfact/counterfact_distracting_neighbor.json", "counterfact-rome", 804, 804),
    ("zsre/zsre_mend_eval_portability_gpt4.json", "zsre", 1037, 1037),
    ("zsre/zsre_mend_train_10000.MzsRE-en.json", "zsre", 10000, 10000),
    ("20q/probe_set.json", "20q", 379, 379),
    ("20q/edit_set.json", "20q", 2505, 0),
    ("20q/train_set.json", "20q", 2006, 0),
]


def real(file):
    if not (DATA / file).exists():
        pytest.skip(f"{file} is not in {DATA}")
    return DATA / file


@pytest.mark.parametrize(("file", "format", "total", "used"), FILES)
def test_counts(file, format, total, used):
    loaded = load_dataset_file(real(file))
    assert (loaded.format, loaded.total, len(loaded.requests), len(loaded.refused)) == (format, total, used, total - used)
    assert {refused.field for refused in loaded.refused} <= {"subject"}


def test_statements_without_a_subject_can_be_mapped():
    loaded = load_dataset_file(real("20q/edit_set.json"), columns=ColumnMap("prompt", "prompt", "label"))
    assert len(loaded.requests) == 2505 and {request.target_new for request in loaded.requests} == {"0", "1"}
    assert loaded.requests[0].located == ("", "a revolver makes sound", "")
