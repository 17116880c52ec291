"""Batched teacher-forced predictions equal a plain forward for each prompt."""

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.evaluation.predict import Prediction, predict
from easyedit_rep.evaluation.robustness import evaluate, finish_locality
from easyedit_rep.queries import Queries, Split
from easyedit_rep.request import EditRequest, Question

TEXTS = ["The mother tongue of Danielle Darrieux is", "Ann Lee plays the ", "東京 is the capital of", "I", "The Eiffel Tower is in"]
TARGETS = ["French", "grand piano", "Japan", "like", " Paris, France"]


def naive(model, tok, text, target):
    """Argmax ids and target ids, from a tokenisation of the joined text and one unpadded forward."""
    joined = text.rstrip() + " " + target.strip()
    out = tok(joined, return_offsets_mapping=True)
    start = next(i for i, (a, b) in enumerate(out["offset_mapping"]) if b > len(text) and b > a)
    with torch.no_grad():
        best = model(input_ids=torch.tensor([out["input_ids"]])).logits[0].argmax(-1).tolist()
    return tuple(best[start - 1 : -1]), tuple(out["input_ids"][start:])


@pytest.mark.parametrize("budget", [1, 60, 8192])
@pytest.mark.parametrize("kind", ["bos", "sentencepiece"])
def test_equals_one_by_one(model, make_tokenizer, kind, budget):
    tok = make_tokenizer(kind)
    found = predict(Anatomy(model), tok, TEXTS, TARGETS, budget)
    for text, target, prediction in zip(TEXTS, TARGETS, found, strict=True):
        predicted, ids = naive(model, tok, text, target)
        assert prediction == (predicted, ids)
        assert prediction.exact == float(predicted == ids)
        assert prediction.token == pytest.approx(sum(a == b for a, b in zip(predicted, ids, strict=True)) / len(ids))


def test_scores():
    assert (Prediction((1, 2), (1, 2)).exact, Prediction((1, 2), (1, 2)).token) == (1.0, 1.0)
    assert (Prediction((1, 9, 3), (1, 2, 3)).exact, Prediction((1, 9, 3), (1, 2, 3)).token) == (0.0, pytest.approx(2 / 3))


def test_nothing_asked_nothing_answered(llama, tok):
    assert predict(Anatomy(llama), tok, [], []) == []


QUERIES = Queries(Split(("A. Lee", "Annie"), ("Ms. Lee",)), Split(("Lee Ann",)), Split((), ("It was winter.",)))
REQUEST = EditRequest(
    "{} plays the",
    "Ann Lee",
    "grand piano",
    ground_truth="violin",
    rephrase_prompts=("Every day Ann Lee plays the", "The instrument of Ann Lee is the"),
    locality={"near": (Question("Steve Jobs founded", "Apple"), Question("I like", "to read"))},
    portability={"far": (Question("In London one hears Ann Lee on the", "grand piano"),)},
)


class TestEvaluate:
    def test_every_number_is_the_one_of_its_question(self, model, tok):
        def ask(text, target="grand piano"):
            return Prediction(*naive(model, tok, text, target))

        found = evaluate(Anatomy(model), tok, REQUEST, QUERIES)
        assert set(found) == {"rewrite_acc", "rephrase_acc", "locality", "portability", "robustness"}
        assert found["rewrite_acc"] == [ask("Ann Lee plays the").token]
        assert found["rephrase_acc"] == [ask(text).token for text in REQUEST.rephrase_prompts]
        assert found["locality"] == {"near_output": [list(ask(q.prompt, q.answer).predicted) for q in REQUEST.locality["near"]]}
        assert found["portability"] == {"far_acc": [ask("In London one hears Ann Lee on the").token]}
        robustness = found["robustness"]
        assert robustness["success"] == [ask("Ann Lee plays the").exact]
        assert robustness["paraphrase"] == [ask(text).exact for text in REQUEST.rephrase_prompts]
        assert robustness["reversion"] == [ask("Ann Lee plays the", "violin").exact]
        texts = {
            "rephrase": (["A. Lee plays the", "Annie plays the"], ["Ms. Lee plays the"]),
            "shuffle": (["Lee Ann plays the"], []),
            "long": ([], ["It was winter. Ann Lee plays the"]),
        }
        for kind, (inside, outside) in texts.items():
            for domain, prompts in (("in_domain", inside), ("out_of_domain", outside)):
                assert robustness[kind][domain] == {"exact": [ask(t).exact for t in prompts], "token": [ask(t).token for t in prompts]}

    def test_a_right_answer_scores_one(self, llama, tok):
        with torch.no_grad():  # the model always says "is"
            llama.model.norm.weight.zero_()
            llama.lm_head = torch.nn.Linear(32, 384)
            llama.lm_head.bias[tok(" is", add_special_tokens=False)["input_ids"][0]] = 99.0
        bare = Queries(Split(), Split(), Split())
        found = evaluate(Anatomy(llama), tok, EditRequest("{} plays", "Ann Lee", "is"), bare)
        assert found["rewrite_acc"] == found["robustness"]["success"] == [1.0]
        assert evaluate(Anatomy(llama), tok, EditRequest("{} plays", "Ann Lee", "in"), bare)["robustness"]["success"] == [0.0]
        assert "rephrase_acc" not in found
        assert found["locality"] == found["portability"] == {}
        assert found["robustness"]["reversion"] == []


def test_locality_is_agreement_with_before():
    pre = {"locality": {"near_output": [[1, 2, 3, 4], [5]], "far_output": []}}
    post = {"locality": {"near_output": [[1, 2, 9, 9], [5]], "far_output": []}}
    finish_locality(pre, post)
    assert post["locality"] == {"near_output": [[1, 2, 9, 9], [5]], "far_output": [], "near_acc": [0.5, 1.0], "far_acc": []}
    assert pre["locality"] == {"near_output": [[1, 2, 3, 4], [5]], "far_output": []}
