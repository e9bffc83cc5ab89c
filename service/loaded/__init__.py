"""A model that is loaded into a program of Python: a notebook, a script, an actor.

    Arguments ─ reading ─▶ native.Query ─ the pipeline ─▶ outputs by head ─▶ Answers

It is an adapter around `service.prediction`, as the servers are: its client is the caller, who gets
arrays in place of JSON, and exceptions in place of error bodies.
"""
