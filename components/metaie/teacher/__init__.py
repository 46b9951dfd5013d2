"""The large model's side: what it is asked, how its answers are read and kept."""
