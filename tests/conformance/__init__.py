"""The conformance suite: scenarios as data, run on one guest an SDK; guest/conformance/README.md says what those do."""
