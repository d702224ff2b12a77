"""What every command prints with: terminal, words, flags."""
