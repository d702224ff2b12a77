"""The accuracy gate: evidence, baselines, questions, decisions."""
