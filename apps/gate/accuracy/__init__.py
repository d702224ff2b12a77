"""The accuracy gate: evidence, questions, decisions."""
