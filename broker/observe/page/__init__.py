"""The page at `/` of the metrics' address, and the same as JSON.

Statistics.message(), models --> view.py: figures of the last seconds --> html.py: the page, and the texts of its
cells, which script.js puts into the page that is already there
"""
