"""What `sitecustomize` changes in libraries and hosts, one job a module."""
