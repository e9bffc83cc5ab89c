"""The console: one page on which people try models in a browser, and the two files it needs."""
