"""The Kubernetes launcher: manifests as pure functions of the plan, and what submits them.

The only room that imports the official client, which takes half a second to load: verbs
import from here inside their functions.
"""
