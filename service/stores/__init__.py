"""Stores, from which models are pulled into a repository; only `triceps pull` imports this.

source ─ look ─▶ offer ─ download ─▶ hidden folder ─ look again, check ─▶ publish, with source.json
"""
