"""Loading a model, and checking that it can be edited."""

import pytest
import torch

from easyedit_rep.errors import EditError
from easyedit_rep.loading import check_weights, load_model, torch_device


@pytest.fixture
def folder(llama, tok, tmp_path):
    llama.save_pretrained(tmp_path / "tiny-llama")
    tok.save_pretrained(tmp_path / "tiny-llama")
    return str(tmp_path / "tiny-llama")


@pytest.mark.parametrize(("options", "dtype"), [({}, torch.float32), ({"fp16": True}, torch.float16), ({"bf16": True}, torch.bfloat16)])
def test_loads_a_folder(folder, llama, tok, options, dtype):
    model, tokenizer = load_model(folder, "cpu", **options)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not model.training
    torch.testing.assert_close(model.state_dict(), {k: v.to(dtype) for k, v in llama.state_dict().items()}, rtol=0, atol=0)
    assert tokenizer("Łódź is")["input_ids"] == tok("Łódź is")["input_ids"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("./no/such/folder", "model_name: ./no/such/folder does not exist"), ("/", "cannot load '/'"), ("no-such/model", "cannot load")],
)
def test_what_cannot_be_loaded_is_one_line(name, said):
    with pytest.raises(EditError) as error:
        load_model(name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_devices():
    assert torch_device("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert torch_device(0) == torch_device("0") == torch.device("cuda:0")
    else:
        for device in (0, "1", "cuda:0"):
            with pytest.raises(EditError, match=r"needs CUDA.*set device: cpu"):
                torch_device(device)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_broken_checkpoint_is_named(model, value):
    check_weights(model)
    name, parameter = list(model.named_parameters())[3]
    with torch.no_grad():
        parameter.view(-1)[5] = value
    with pytest.raises(EditError, match=f"{name} holds NaN or infinite values"):
        check_weights(model)


def test_a_sum_that_overflows_is_not_taken_for_a_broken_weight(llama):
    with torch.no_grad():
        llama.lm_head.weight.fill_(1e38)
    check_weights(llama)


def test_weights_that_are_not_there_are_refused(llama):
    llama.lm_head.to("meta")
    with pytest.raises(EditError, match="a part of the model is offloaded"):
        check_weights(llama)
