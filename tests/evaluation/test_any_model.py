"""`easyedit_rep.evaluate` on models that nobody here edited, and its summary."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from easyedit_rep import EditError, EditRequest, evaluate
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.evaluation.metrics import EXTRA, REVERSION, TABLE, TOKEN, Metric
from easyedit_rep.evaluation.robustness import evaluate as evaluate_one
from easyedit_rep.queries import QueryMaker
from easyedit_rep.request import Question

REQUESTS = [
    EditRequest(
        "{} plays the",
        "Ann Lee",
        "piano",
        ground_truth="violin",
        rephrase_prompts=("Every day Ann Lee plays the",),
        locality={"near": (Question("Steve Jobs founded", "Apple"), Question("I like", "to read"))},
        portability={"far": (Question("In London one hears Ann Lee on the", "piano"),)},
        subject_rephrase=("A. Lee", "Annie", "Ms. Lee"),
    ),
    EditRequest("I like", "I", "Paris"),
]
SHORT = {"shuffle_count": 4, "long_context_count": 2, "long_context_tokens": 20}


def changed(model):
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(-1.0)
    return model


def test_the_same_numbers_as_with_the_model_opened(model, tok, corpus):
    found = evaluate(model, tok, REQUESTS, corpus=corpus.texts, negative_count=0, **SHORT)
    maker = QueryMaker(tok, {}, corpus, 4, 2, 20, 512, 0)
    alone = [{name: value for name, value in row.items() if name != "compared"} for row in found.records]
    assert alone == [evaluate_one(Anatomy(model), tok, r, maker(r)) for r in REQUESTS]


def test_before_must_be_of_the_same_questions(llama, tok, corpus):
    before = evaluate(llama, tok, REQUESTS, corpus=corpus.texts, **SHORT)
    with pytest.raises(EditError, match=r"before\[0\] was asked other questions"):
        evaluate(llama, tok, REQUESTS, before=before, corpus=corpus.texts, negative_count=0, **SHORT)
    with pytest.raises(EditError, match=r"before\[0\] was asked other questions"):
        evaluate(llama, tok, REQUESTS[::-1], before=before, corpus=corpus.texts, **SHORT)
    noted = [{name: value for name, value in row.items() if name != "compared"} for row in before.records]  # as `pre` of an edit
    assert evaluate(llama, tok, REQUESTS, before=noted, corpus=corpus.texts, **SHORT).summary["locality"] == 100
    long = replace(REQUESTS[0], rephrase_prompts=("word " * 600,))
    with pytest.raises(EditError, match="rephrase_prompts 'word word"):
        evaluate(llama, tok, [long], **SHORT)


def test_before_and_after(llama, tok, corpus):
    options = {"corpus": corpus.texts, "generation": True, "fluency": True, **SHORT}
    before = evaluate(llama, tok, REQUESTS, **options)
    assert not {"locality", "negated"} & set(before.summary), "there is nothing to compare with"
    same = evaluate(llama, tok, REQUESTS, before=before, **options).summary
    assert same["locality"] == same["distracted"] == same["negated"] == 100.0
    after = evaluate(changed(llama), tok, REQUESTS, before=before.records, **options)
    assert after.summary["locality"] < 100 and after.summary["negated"] < 100
    assert set(after.records[0]["robustness"]["negatives"]["distracted"]) == {"output", "acc"}
    protocols = after.records[0]["robustness"]["protocols"]
    assert set(protocols) == {"success", "paraphrase", "reversion", "portability"}
    assert all(set(lists) == {"exact", "token", "generation"} for lists in protocols.values())
    assert len(after.records[0]["robustness"]["long"]["in_domain"]["generation"]) == 1
    assert after.records[0]["fluency"]["ngram_entropy"] > 0
    known = {metric.name for metric in (*TABLE, REVERSION, *TOKEN, *EXTRA)}
    assert known >= set(after.summary) > {"success", "success_generation", "portability", "fluency", "reversion", "rephrase_id_token"}


def test_a_subject_of_one_token_has_no_shuffles_and_says_so(llama, tok):
    first, second = evaluate(llama, tok, REQUESTS).records
    assert second["robustness"]["shuffle"] == {d: {"exact": None, "token": None} for d in ("in_domain", "out_of_domain")}
    assert len(first["robustness"]["shuffle"]["in_domain"]["exact"]) == 5
    assert second["robustness"]["rephrase"]["in_domain"]["exact"] == []
    (unasked,) = evaluate(llama, tok, REQUESTS[1:], shuffle_count=0).records
    assert unasked["robustness"]["shuffle"]["in_domain"]["exact"] == []


def test_wrapped_models_and_functions_are_models(llama, tok):
    plain = evaluate(llama, tok, REQUESTS, generation=True)
    wrapped = get_peft_model(llama, LoraConfig(target_modules=["down_proj"], task_type="CAUSAL_LM"))
    wrapped.train()
    assert evaluate(wrapped, tok, REQUESTS, generation=True) == plain
    assert wrapped.training, "as it was"

    class Wrapper(torch.nn.Module):
        """An architecture nobody knows, that returns bare logits."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, attention_mask):
            return self.inner(input_ids=input_ids, attention_mask=attention_mask).logits

    assert evaluate(Wrapper(llama.eval()), tok, REQUESTS).records == evaluate(llama, tok, REQUESTS).records


def test_easyedits_requests_are_taken(llama, tok):
    request = {"prompt": "Ann Lee plays the", "subject": "Ann Lee", "target_new": "piano", "extra": 1}
    (row,) = evaluate(llama, tok, [request]).records
    assert row["rewrite_acc"] == evaluate(llama, tok, [EditRequest("{} plays the", "Ann Lee", "piano")]).records[0]["rewrite_acc"]


def test_what_cannot_be_compared_is_refused(llama, tok):
    before = evaluate(llama, tok, REQUESTS)
    with pytest.raises(EditError, match="before has 2 records, not 1"):
        evaluate(llama, tok, REQUESTS[:1], before=before)
    with pytest.raises(EditError, match=r"before\[0\] was asked other questions"):
        evaluate(llama, tok, REQUESTS, before=before.records[::-1])
    with pytest.raises(EditError, match="no records"):
        evaluate(llama, tok, [])


def test_the_mean_is_over_questions():
    metric = Metric("x", "X", "", lambda post: post["x"])
    posts = [{"x": [1.0, 0.0, 0.0]}, {"x": [1.0]}, {"x": []}]
    assert metric.micro(posts) == 50.0
    assert metric.micro([{"x": []}]) is metric.micro([]) is None


def test_no_cache_of_keys_and_values_is_made(llama, tok, corpus):
    seen = []
    llama.register_forward_hook(lambda _m, _a, kwargs, out: seen.append((kwargs.get("use_cache"), out.past_key_values)), with_kwargs=True)
    evaluate(llama, tok, REQUESTS[:1], corpus=corpus.texts, **SHORT)
    assert seen and set(seen) == {(False, None)}
