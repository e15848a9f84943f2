"""Kills, flipped bits and full disks at random moments: `python -m tests.reliability` makes the table of
docs/reliability.md."""
