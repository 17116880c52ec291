"""Requests that cannot be edited are refused with one line that says what to do."""

import pytest

from easyedit_rep.errors import EditError
from easyedit_rep.memory.tokens import Prompt
from easyedit_rep.request import EditRequest, Question, make_requests


@pytest.mark.parametrize(
    ("prompt", "located"),
    [
        ("Ann Lee plays", Prompt("", "Ann Lee", " plays")),
        ("Where is {}?", Prompt("Where is ", "Ann Lee", "?")),
        ("Ann Lee met Ann Lee in", Prompt("Ann Lee met ", "Ann Lee", " in")),
        ("{} met Ann Lee in", Prompt("", "Ann Lee", " met Ann Lee in")),
        ("A {brace} for Ann Lee", Prompt("A {brace} for ", "Ann Lee", "")),
    ],
)
def test_the_subject_is_found(prompt, located):
    request = EditRequest(prompt, "Ann Lee", "x")
    assert request.located == located
    assert request.text == "".join(located)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subject": "Bob Lee"}, "subject 'Bob Lee' is not in prompt 'Ann Lee plays'"),
        ({"subject": "ann lee"}, "subject 'ann lee' is not in prompt"),
        ({"prompt": "{} met {}"}, "prompt '{} met {}' has 2 '{}'"),
        ({"target_new": ""}, "target_new of prompt 'Ann Lee plays' is empty"),
        ({"target_new": " \n"}, "target_new of prompt 'Ann Lee plays' is empty"),
        ({"subject": " "}, "subject of prompt 'Ann Lee plays' is empty"),
        ({"subject": ""}, "subject of prompt 'Ann Lee plays' is empty"),
        ({"subject": None}, "subject of prompt 'Ann Lee plays' is empty"),
        ({"target_new": 1990}, "target_new of prompt 'Ann Lee plays' is 1990, not a text: write '1990'"),
        ({"prompt": None}, "prompt None is not a text: write the sentence"),
    ],
)
def test_what_cannot_be_edited_is_refused(change, said):
    with pytest.raises(EditError) as error:
        EditRequest(**{"prompt": "Ann Lee plays", "subject": "Ann Lee", "target_new": "golf", **change})
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_from_easyedit_takes_strings_lists_and_nothing():
    request = EditRequest.from_easyedit(
        {
            "prompt": "Ann Lee plays",
            "subject": "Ann Lee",
            "target_new": "golf",
            "ground_truth": "piano",
            "rephrase_prompt": "Lee plays",
            "locality": {"near": {"prompt": ["Bob plays", "Eve plays"], "ground_truth": ["chess", "go"]}},
            "portability": {"far": {"prompt": ["The game of Ann Lee is", "It is"], "ground_truth": "golf"}},
            "subject_rephrase": ["A. Lee", "", " "],
            "somebody_elses": 1,
        }
    )
    assert request.rephrase_prompts == ("Lee plays",)
    assert request.subject_rephrase == ("A. Lee",)
    assert request.long_context == ()
    assert request.locality == {"near": (Question("Bob plays", "chess"), Question("Eve plays", "go"))}
    assert request.portability == {"far": (Question("The game of Ann Lee is", "golf"), Question("It is", "golf"))}
    assert EditRequest.from_easyedit({"prompt": "x y", "subject": "x", "target_new": "z", "locality": None}).locality == {}


@pytest.mark.parametrize("name", ["subject", "target_new"])
def test_from_easyedit_names_what_is_missing(name):
    request = {"prompt": "Ann Lee plays", "subject": "Ann Lee", "target_new": "golf"}
    del request[name]
    with pytest.raises(EditError, match=rf"request 'Ann Lee plays' lacks {name}: pass {name}=\[…\] to edit\(\)"):
        EditRequest.from_easyedit(request)


def test_columns_become_requests():
    one, two = make_requests(
        ["Ann plays", "Bob plays"],
        ["Ann", "Bob"],
        ["golf", "chess"],
        rephrase_prompts=["Ann likes", ["Bob likes", "Bob loves"]],
        locality_inputs={"near": {"prompt": ["Eve plays", None], "ground_truth": ["go", None]}},
        subject_rephrase=[["A."], None],
    )
    assert (one.subject, two.subject) == ("Ann", "Bob")
    assert one.rephrase_prompts == ("Ann likes",)
    assert two.rephrase_prompts == ("Bob likes", "Bob loves")
    assert one.locality == {"near": (Question("Eve plays", "go"),)}
    assert two.locality == {}
    assert (one.subject_rephrase, two.subject_rephrase) == (("A.",), ())


def test_a_single_prompt_may_be_a_string():
    (request,) = make_requests("Ann plays", "Ann", "golf", "piano", subject_rephrase=["A.", "Annie"], long_context=["Once."])
    assert (request.ground_truth, request.subject_rephrase, request.long_context) == ("piano", ("A.", "Annie"), ("Once.",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subject": ["Ann"]}, "subject has 1 entries for 2 prompts"),
        ({"target_new": "golf"}, "target_new has 1 entries for 2 prompts"),
        ({"rephrase_prompts": ["a", "b", "c"]}, "rephrase_prompts has 3 entries for 2 prompts"),
        (
            {"locality_inputs": {"near": {"prompt": ["a"], "ground_truth": ["b", "c"]}}},
            "locality_inputs[near].prompt has 1 entries for 2 prompts",
        ),
        ({"locality_inputs": {"near": {"prompt": [["a", "b"], "c"], "ground_truth": [["d"], "e"]}}}, "near: 2 prompts but 1 ground truths"),
        ({"locality_inputs": {"near": {"prompt": ["a", "b"]}}}, "locality_inputs[near] lacks ground_truth"),
        ({"subject": None}, "subject of prompt 'Ann plays' is empty"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, said):
    columns = {"prompts": ["Ann plays", "Bob plays"], "subject": ["Ann", "Bob"], "target_new": ["golf", "chess"], **change}
    with pytest.raises(EditError) as error:
        make_requests(**columns)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_what_real_data_holds_is_read():
    """pandas' NaN, None, lists of accepted answers, and pairs of which one half is blank."""
    nan = float("nan")
    near = {"prompt": [["Q1", "", "Q2", "Q3"]], "ground_truth": [[["a", "b"], "c", nan, None]]}
    (request,) = make_requests(["{} is"], ["Ann"], ["x"], [["Paris", "Lutetia"]], [nan], {"near": near})
    assert request.ground_truth == "Paris" and request.rephrase_prompts == ()
    assert request.locality == {"near": (Question("Q1", "a"),)}
