"""The records of `facts.json`: the facts of the world in the data format of the REP paper."""

import random
from typing import Any

from .relations import TEMPLATES
from .world import NEIGHBOURS, PARAPHRASES_PER_RECORD, RECORDS_PER_RELATION, Fact, World


def _neighbour_prompts(fact: Fact, facts: list[Fact], rng: random.Random) -> list[str]:
    """Prompts of other subjects with the same true object: the canonical ones first, then paraphrases."""
    others = [f for f in facts if f.target == fact.target and f.subject.name != fact.subject.name]
    canonical, *rest = TEMPLATES[fact.relation]
    prompts = [canonical.format(other.subject.name) for other in others]
    more = [template.format(other.subject.name) for template in rest for other in others]
    return (prompts + rng.sample(more, NEIGHBOURS))[:NEIGHBOURS]


def make_records(world: World, seed: int = 0) -> list[dict[str, Any]]:
    """One record for each of the first facts of every relation."""
    rng = random.Random(f"records-{seed}")
    records = []
    for relation, templates in TEMPLATES.items():
        facts = [fact for fact in world.facts if fact.relation == relation]
        for fact in facts[:RECORDS_PER_RELATION]:
            subject = fact.subject.name
            paraphrases = rng.sample(templates[1:], PARAPHRASES_PER_RECORD)
            records.append(
                {
                    "case_id": len(records),
                    "prompt": templates[0].format(subject),
                    "subject": subject,
                    "target_new": fact.target_new,
                    "target_true": fact.target,
                    "rephrase_prompt": [template.format(subject) for template in paraphrases],
                    "rephrase_target": fact.target_new,
                    "locality_prompt": _neighbour_prompts(fact, facts, rng),
                    "locality_ground_truth": fact.target,
                    "subject_rephrase": list(fact.subject.rephrases),
                }
            )
    return records
