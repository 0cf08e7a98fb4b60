"""From stored documents to pages for people: HTML and SVG; computes nothing.

Every number comes from the run document, its tables, or `bench.analysis`.
"""
