"""Other people's clients as engines: what a training job that uses them would get.

Each fetches a range into a slot; where it can only return fresh bytes, they are copied, as a
job would have to. Tries again are ours (`library.py`), with the libraries' own turned off where
they can be, so that they are counted and attributed alike.
"""
