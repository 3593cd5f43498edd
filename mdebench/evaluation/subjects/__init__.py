"""What is measured: finished runs as subjects, what they have seen, and who finds damage for them."""

from mdebench.evaluation.subjects.finished import load_subject

__all__ = ["load_subject"]
