"""What is stored: the run document, its tables, ids and fingerprints.

Knows `spec` and `errors` alone; measures nothing and draws nothing.
"""
