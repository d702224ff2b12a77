"""The vocabulary: errors, records, files, text. It imports nothing of ours."""
