"""From requirements and run documents to a verdict; reads documents, measures nothing."""
