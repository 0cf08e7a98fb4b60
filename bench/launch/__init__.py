"""Start agents and bring their results home: local processes now; a cluster is another launcher."""
