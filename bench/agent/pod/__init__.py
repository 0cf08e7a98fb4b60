"""The agent as a pod runs it: prepares the data set, or measures one repeat on its node."""
