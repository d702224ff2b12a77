"""What a release is compared with: its record, its reader, its update in one step."""
