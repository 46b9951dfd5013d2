"""Six task families on top of queries: a schema ──▶ queries, and answers ──▶ structure."""
