"""The robustness variants of a request: rephrased and shuffled subjects, long contexts, each in two halves."""

from .make import Queries, QueryMaker, Split

__all__ = ["Queries", "QueryMaker", "Split"]
