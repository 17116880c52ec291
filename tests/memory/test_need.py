"""What an edit is estimated to take, and that too little is refused before anything is done."""

from dataclasses import asdict, replace

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.editor import RobustEditor
from easyedit_rep.errors import EditError
from easyedit_rep.memory.need import GIB, estimate
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.closed import ClosedForm
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import PathwayShape, RepOptions


def test_what_can_be_counted_is_counted(llama, make_hparams):
    hparams = make_hparams(layers=[1, 2])
    need = estimate(Anatomy(llama), hparams, batch=True)
    assert need["weights"] == 4 * sum(p.numel() for p in llama.parameters()) + sum(b.numel() * b.itemsize for b in llama.buffers())
    assert need["copies of W"] == 2 * 2 * 4 * 32 * 48
    assert need["statistics"] == 2 * 2 * 8 * 48 * 48


def test_tied_weights_are_counted_once(make_model, make_hparams):
    model = make_model("qwen2")
    need = estimate(Anatomy(model), make_hparams(), batch=False)
    assert need["weights"] == 4 * sum(p.numel() for p in model.parameters()) + sum(b.numel() * b.itemsize for b in model.buffers())


@pytest.mark.parametrize("change", [{"v_dtype": "bfloat16"}, {"pathways": False}])
def test_what_is_asked_for_is_paid_for(llama, make_hparams, change):
    plain, other = (
        sum(estimate(Anatomy(llama), make_hparams(rep=RepOptions(**options)), batch=False).values()) for options in ({}, change)
    )
    assert (other > plain) == ("v_dtype" in change)


def test_a_closed_form_pathway_takes_matrices_and_no_training(llama, make_hparams):
    options = {"text_tokens": 100, "training": PathwayTraining(first_tokens=10)}
    one, other = (
        estimate(Anatomy(llama), make_hparams(rep=RepOptions(pathway=PathwayShape(kind="closed", rank=rank), **options)), batch=False)
        for rank in (4, 4000)
    )
    assert one == other
    assert one["pathway"] == 4 * (4 * 48 * 48 + 2 * 48 + 1), "detector, key and bias"
    assert one["keys of text"] == 4 * 120 * 48


def test_more_rounds_of_mining_hold_one_more_matrix(llama, make_hparams):
    once, again = (
        estimate(
            Anatomy(llama),
            make_hparams(rep=RepOptions(pathway=PathwayShape(kind="closed"), closed=ClosedForm(hard_rounds=rounds))),
            batch=False,
        )["pathway"]
        for rounds in (1, 3)
    )
    assert again - once == 4 * 48 * 48


@pytest.mark.parametrize("kind", ["paper", "closed"])
def test_every_fact_of_a_batch_leaves_a_pathway(llama, make_hparams, kind):
    shape = PathwayShape(kind=kind, detectors=2) if kind == "closed" else PathwayShape(rank=4)
    options = {"layers": [1, 2], "method": {"mom2_update_weight": 5.0}, "rep": RepOptions(base="MEMIT", pathway=shape)}
    one, nine = (estimate(Anatomy(llama), make_hparams(batch_size=n, **options), batch=True) for n in (1, 9))
    config = RepConfig(target_modules=["x"], **asdict(shape))
    layer = RepLayer(torch.nn.Linear(48, 32, bias=False), "x", config)
    attached = sum(p.numel() * p.itemsize for name, p in layer.named_parameters() if name.startswith("rep_"))
    assert sum(nine.values()) - sum(one.values()) == pytest.approx(8 * 2 * attached, rel=0.02)


def test_half_the_bytes_in_bfloat16(llama, make_hparams):
    full = estimate(Anatomy(llama), make_hparams(), batch=False)
    half = estimate(Anatomy(llama.bfloat16()), make_hparams(), batch=False)
    assert half["copies of W"] * 2 == full["copies of W"]
    assert half["optimising values"] < full["optimising values"]


@pytest.mark.parametrize(
    ("options", "hint"),
    [({}, "set bf16: true, or raise it"), ({"statistics_device": "model"}, "set bf16: true or rep.statistics_device: cpu, or raise it")],
)
def test_too_little_is_refused_in_one_line(llama, tok, make_hparams, options, hint):
    hparams = make_hparams()
    hparams.rep = replace(hparams.rep, max_memory=1e-4, **options)
    with pytest.raises(EditError, match=r"an edit takes about [\d.e-]+ GiB \(.* [\d.e-]+.*\), 0.0001 are allowed: ") as error:
        RobustEditor(hparams, llama, tok)
    assert str(error.value).endswith(hint)
    assert "\n" not in str(error.value)


def test_enough_is_not_refused(llama, tok, make_hparams):
    hparams = make_hparams()
    need = sum(estimate(Anatomy(llama), hparams, batch=False).values()) / GIB
    hparams.rep = replace(hparams.rep, max_memory=1.01 * need)
    RobustEditor(hparams, llama, tok)


def test_seven_billion_in_bfloat16_fit_into_24_gib(make_hparams):
    """Shapes alone: no weight is held."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig()).bfloat16()  # Llama-2-7B's sizes
    hparams = make_hparams(layers=[5], v_loss_layer=31, context_template_length_params=[[5, 10], [10, 10]])
    need = estimate(Anatomy(model), hparams, batch=False)
    assert need["weights"] > 2 * 6.7e9
    assert sum(need.values()) < 24 * GIB


@pytest.mark.parametrize(("name", "value"), [("max_memory", 0), ("statistics_device", "gpu"), ("v_dtype", "int8")])
def test_options_are_checked(name, value):
    with pytest.raises(EditError, match=f"{name}: {value!r} is "):
        RepOptions(**{name: value})


def test_two_dtypes_are_refused(make_hparams):
    with pytest.raises(EditError, match="fp16 and bf16: set one of them"):
        make_hparams(fp16=True, bf16=True)


def test_a_sequences_memory_and_the_sums_c_is_made_from(llama, make_hparams):
    anatomy = Anatomy(llama)
    rep = RepOptions(base="D4S", pathways=False)
    on_device, on_cpu = (
        estimate(anatomy, make_hparams(layers=[1, 2], rep=rep, method={"mom2_update_weight": 5.0, "d4s": {"on_cpu": on_cpu}}), batch=False)
        for on_cpu in (False, True)
    )
    assert on_device["sequence"] == 2 * 8 * 48 * (48 + 32) and "sequence" not in on_cpu
    with torch.device("meta"):
        wide = type(llama)(type(llama.config)(**{**llama.config.to_dict(), "intermediate_size": 10**5}))
    need = estimate(Anatomy(wide), make_hparams(layers=[1], rep=replace(rep, base="ROME", statistics_device="cpu")), batch=False)
    assert sum(need.values()) == need["weights"] + 8 * 2 * 10**10
