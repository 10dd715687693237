"""An Outcome for people: tables of text (`rows.py`), on the terminal, as a Markdown page, and as plots."""
