"""A record of every format, written out."""

ROME = {
    "case_id": 4482,
    "requested_rewrite": {
        "prompt": "{} originates from",
        "relation_id": "P19",
        "target_new": {"str": "Philadelphia", "id": "Q1"},
        "target_true": {"str": "London", "id": "Q84"},
        "subject": "Spike Hughes",
    },
    "paraphrase_prompts": ["Spike Hughes is native to"],
    "neighborhood_prompts": ["Max Mosley originates from", "Lita Ford was native to"],
    "attribute_prompts": ["Otis Rush was native to"],
    "generation_prompts": ["Spike Hughes currently lives in"],
    "portability": {
        "Recalled Relation": "(a, b, c)",
        "New Question": "Which food is Hughes' home known for?",
        "New Answer": "Cheesesteaks",
    },
    "unrelated_relation": {"relation_id": "instance of", "object": "human", "question": "What is Spike Hughes an instance of?"},
    "distracting_neighborhood_prompts": ["Spike Hughes originates from Philadelphia. Max Mosley originates from"],
}
FLAT = {
    "case_id": 0,
    "prompt": "The mother tongue of Ann Lee is",
    "subject": "Ann Lee",
    "target_new": "English",
    "ground_truth": "French",
    "rephrase_prompt": "Where Ann Lee is from, people speak",
    "locality_prompt": "Bo Ek speaks",
    "locality_ground_truth": "French",
}
ZSRE = {
    "subject": "Volvo B12M",
    "src": "What company made Volvo B12M?",
    "pred": "Volvo",
    "rephrase": "Volvo B12M's manufacturer was who?",
    "alt": "Volkswagen Group",
    "answers": ["Volvo Buses", "Volvo"],
    "loc": "nq question: who sang it must have been love",
    "loc_ans": "Roxette",
    "portability": {"Recalled Relation": "(a, b, c)", "New Question": "Where is its maker's headquarters?", "New Answer": "Wolfsburg"},
}
KNOWEDIT = {
    "subject": "Leo Arons",
    "prompt": "The place of death of Leo Arons is",
    "target_new": "Berlin",
    "ground_truth": ["Rome", "Roma"],
    "rephrase_prompt": "Where did Leo Arons die?",
    "portability": {
        "Logical_Generalization": [{"prompt": "Is Leo Arons still alive?", "ground_truth": [["no"], ["incorrect"]]}],
        "Reasoning": [
            {"prompt": "The continent of the place of death of Leo Arons is", "ground_truth": [["", "Europe", "European continent"]]},
            {"prompt": "Nobody knows", "ground_truth": [[""]]},
        ],
        "Subject_Aliasing": None,
    },
    "locality": {"Relation_Specificity": [{"prompt": ["His father is", "Leo Arons' father is"], "ground_truth": "Albert Arons"}]},
}
WIKIBIO = {
    "text": "This is a Wikipedia passage about john reynolds. Sir John Reynolds was a neurologist.",
    "labels": "He was taught by his father.",
    "concept": "john reynolds",
    "locality": {"Relation_Specificity": [{"prompt": "The field of work of john reynolds is", "ground_truth": ["medicine"]}]},
}
TWENTY = {
    "prompt": "Furnishings make noise",
    "label": " False",
    "subject": "Furnishings",
    "affected_reasoning": ["Furnishings are inanimate objects"],
    "unaffected_neighborhood_subject": ["Animals make noise"],
    "unaffected_neighborhood_object": ["Furnishings make light"],
    "affected_neighborhood_subject": ["Fixtures make noise"],
    "affected_paraphrase": ["Furniture can be noisy"],
    "predicted_label": "True",
}
REP = {k: FLAT[k] for k in ("prompt", "subject", "target_new")} | {"target_true": "French", "subject_rephrase": ["Ms. Lee"]}
MQD = {
    "case_id": 0,
    "question": "DG",
    "prompt": "PersonX accepts PersonY appointment, resulting in PersonY",
    "subject": "PersonX accepts PersonY appointment",
    "target_new": "shakes PersonX hand",
    "event": "PersonX accepts PersonY appointment",
    "relation": "oEffect",
    "tail": "shakes PersonX hand",
}
SAMPLES = {
    "counterfact-rome": ROME,
    "zsre": ZSRE,
    "mqd": MQD,
    "20q": TWENTY,
    "rep": REP,
    "knowedit": KNOWEDIT,
    "counterfact": FLAT,
}
