"""What is measured, one group of rows a module; run by `bench.py`, each in a process of its own."""
