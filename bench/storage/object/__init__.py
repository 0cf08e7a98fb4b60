"""Objects, read by ranged requests straight into slots, and written by multipart upload.

`http`, `connection`, `sigv4`, `retry`, `faults` and `cell` run inside reader processes and
import the standard library only. The engines of other libraries bring those with them.
"""
