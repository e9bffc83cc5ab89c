"""A model that is loaded into a program of Python: a notebook, a script, an actor.

    values ─ given ─▶ a native request ─ reading ─▶ Query ─ the pipeline ─▶ Answers

It is an adapter around `service.prediction`, as the servers are: its client is the caller, who gets
arrays in place of JSON, and exceptions in place of error bodies.
"""
