"""Statements about answers, such as how good they are."""
